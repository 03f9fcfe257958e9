#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/database/bytes.h"

namespace weir::database {

// One request of a Redis client: how it begins.
struct RespRequest {
  std::string name;     // the command, cut at RespRequestReader::kKeepBytes
  std::string first;    // its first argument, cut likewise
  bool is_cut = false;  // the name was longer
};

// RespRequestReader splits what a client sends: arrays of bulk strings, or inline commands.
// Keeps nothing but the front of two words.
class RespRequestReader {
 public:
  static constexpr std::size_t kKeepBytes = 32;
  static constexpr std::size_t kMaxInlineBytes = 65536;  // PROTO_INLINE_MAX_SIZE
  static constexpr std::uint64_t kMaxArguments = 1U << 31U;
  static constexpr std::uint64_t kMaxBulkBytes = 1ULL << 40U;

  enum class Result : std::uint8_t { kNeedMore, kRequest, kMalformed };

  // Takes from the front of `input` up to the end of one request, which is then `request()`
  // until the next call. Empty ones are passed over.
  Result Take(Bytes& input);
  [[nodiscard]] const RespRequest& request() const { return request_; }

 private:
  enum class Part : std::uint8_t { kStart, kCount, kInline, kLength, kBulk };

  bool TakeLine(Bytes& input);
  Result OnLine();
  Result OnInline();
  void TakeBulk(Bytes& input);
  std::string* Word();

  RespRequest request_;
  std::string line_;
  std::uint64_t arguments_ = 0;  // of this request, in all
  std::uint64_t left_ = 0;       // to come
  std::uint64_t bulk_left_ = 0;  // bytes, with the line's end
  std::uint64_t line_bytes_ = 0;
  Part part_ = Part::kStart;
};

// One reply of a Redis server.
struct RespReply {
  char type = 0;          // of the whole
  bool is_error = false;  // the whole is an error
  std::string text;       // of a simple string or an error, its front
  // The code of the first error in it, the whole or an element: its first word.
  std::string error;
  bool has_error = false;
};

// RespReplyReader splits what a server sends, RESP2 and RESP3. Bounded: kMaxDepth levels, and
// the front of one line.
class RespReplyReader {
 public:
  static constexpr std::size_t kMaxDepth = 128;
  static constexpr std::size_t kKeepBytes = 64;

  enum class Result : std::uint8_t { kNeedMore, kReply, kMalformed, kTooDeep };

  // Takes from the front of `input` up to the end of one reply, or push, which is then
  // `reply()` until the next call.
  Result Take(Bytes& input);
  [[nodiscard]] const RespReply& reply() const { return reply_; }

 private:
  struct Level {
    std::uint64_t left = 0;
    bool is_attribute = false;  // stands before an element and is none itself
  };

  Result OnLine();
  Result OnAggregate(char type, std::uint64_t factor);
  // An element is complete; true if it completes the reply.
  bool EndElement();
  void NoteError(std::string_view text);

  RespReply reply_;
  std::vector<Level> levels_;
  std::string line_;             // its front, with the type
  std::string bulk_error_;       // the front of a bulk error
  std::uint64_t bulk_left_ = 0;  // bytes, with the line's end
  bool in_bulk_ = false;
  bool is_bulk_error_ = false;
  bool fresh_ = true;
  bool ends_in_cr_ = false;
};

// A count or length; none if `text` is no number of at most 18 digits.
struct RespNumber {
  bool ok = false;
  bool is_null = false;  // -1
  std::uint64_t value = 0;
};
RespNumber ParseRespNumber(std::string_view text);

}  // namespace weir::database
