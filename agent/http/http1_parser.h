#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

// HTTP/1.0 and 1.1 messages (RFC 9112), strict where laxness lets two parsers disagree on
// where a message ends. A message is taken in three steps, each a function of the bytes
// so far alone, so that it does not matter how they were cut into reads:
//   HeadScanner  finds the end of the head, and keeps the limits
//   ParseRequestHead / ParseResponseHead  take the whole head apart, without copying
//   BodyReader   walks over the body, and says how much of a read belongs to it
namespace weir::http {

// Limits of one message's head; model::Limits has the configured values.
struct Http1Limits {
  std::uint32_t max_start_line_bytes = 65536;  // without its CRLF
  std::uint32_t max_header_bytes = 65536;      // all field lines with their CRLFs
  std::uint32_t max_header_count = 256;
};

// What is wrong with a message. Each value is a counter label by its text.
enum class Http1Error : std::uint8_t {
  kNone,
  kStartLineTooLong,
  kHeadersTooLarge,
  kTooManyHeaders,
  kBareCr,
  kBareLf,
  kBadStartLine,
  kBadMethod,
  kBadTarget,
  kBadVersion,
  kBadStatus,
  kBadFieldName,  // also white space before the colon, and a line without a colon
  kBadFieldValue,
  kObsFold,
  kBadContentLength,  // signed, empty, a list, not digits, too large
  kRepeatedContentLength,
  kBothLengths,  // Content-Length and Transfer-Encoding
  kBadTransferEncoding,
  kBadHost,  // missing in 1.1, repeated, or no host
  kBadChunkSize,
  kBadChunk,  // its data does not end in CRLF
  kBadTrailer,
};
inline constexpr std::size_t kHttp1ErrorCount =
    static_cast<std::size_t>(Http1Error::kBadTrailer) + 1;
std::string_view ToString(Http1Error error);
// The status that answers a request with this error: 400, 414 or 431.
std::uint16_t StatusFor(Http1Error error);

enum class Progress : std::uint8_t { kNeedMore, kComplete, kError };

// HeadScanner finds where a head ends. It is given the head from its first byte on, each
// time with more bytes behind, and looks at each byte once.
class HeadScanner {
 public:
  // Looks at `bytes` (all since the head's begin). kComplete: size() says where the head
  // ends; kError: error() says why.
  Progress Scan(std::string_view bytes, const Http1Limits& limits);
  // Bytes of the head, the empty line included; valid after kComplete.
  [[nodiscard]] std::size_t size() const { return line_begin_; }
  [[nodiscard]] Http1Error error() const { return error_; }
  void Reset() { *this = HeadScanner(); }

 private:
  Progress Fail(Http1Error error);
  Progress EndLine(std::size_t content);
  [[nodiscard]] Http1Error CheckLength(std::size_t content, const Http1Limits& limits) const;

  std::size_t line_begin_ = 0;
  std::size_t scanned_ = 0;
  std::size_t fields_begin_ = 0;
  std::uint32_t line_count_ = 0;
  Http1Error error_ = Http1Error::kNone;
};

// Fields that the codec acts on; trace headers are identified by trace_headers.h.
enum class FieldId : std::uint8_t {
  kOther,
  kConnection,
  kContentLength,
  kHost,
  kTransferEncoding,
  kUpgrade,
  kUserAgent,
};

// One field line; all views die with the head that was parsed.
struct Field {
  FieldId id = FieldId::kOther;
  std::string_view line;   // with its CRLF
  std::string_view name;   // as sent
  std::string_view value;  // without white space around
};

// How the end of a body is known (RFC 9112 section 6.3).
enum class BodyKind : std::uint8_t { kNone, kCounted, kChunked, kUntilEnd };

struct Framing {
  BodyKind kind = BodyKind::kNone;
  std::uint64_t length = 0;  // of kCounted
};

// RequestHead is a request's head taken apart. Reused from request to request, so that
// its field list allocates once. All views die with the head that was parsed.
struct RequestHead {
  std::string_view method;
  std::string_view target;
  std::string_view host;   // authority of the target, else the Host field; may be empty
  std::string_view path;   // of the target, without query and fragment; empty for CONNECT
  std::string_view query;  // behind the "?"
  std::string_view user_agent;
  std::uint8_t version_minor = 1;
  bool is_connect = false;
  bool is_head = false;
  bool wants_upgrade = false;  // 1.1, an Upgrade field and Connection: upgrade
  Framing framing;
  std::vector<Field> fields;
};

// ParseRequestHead takes a whole head (as HeadScanner found it) apart. kNone on success;
// after an error `head` holds what was understood until then. Pure; any thread.
[[nodiscard]] Http1Error ParseRequestHead(std::string_view bytes, RequestHead& head);

// What of the request decides how its response ends.
struct RequestKind {
  bool is_head = false;
  bool is_connect = false;
  bool wants_upgrade = false;
};

struct ResponseHead {
  std::uint16_t status = 0;
  std::uint8_t version_minor = 1;
  bool is_interim = false;         // 1xx other than 101: another response follows
  bool switches_protocol = false;  // 101, or 2xx to CONNECT: opaque from here on
  Framing framing;
  std::vector<Field> fields;
};

// ParseResponseHead is the same for a response to a request of `kind`.
[[nodiscard]] Http1Error ParseResponseHead(std::string_view bytes, const RequestKind& kind,
                                           ResponseHead& head);

// BodyReader walks over one body, framing bytes and trailers included.
class BodyReader {
 public:
  BodyReader() = default;  // of a message without a body
  explicit BodyReader(const Framing& framing);

  struct Step {
    Progress progress = Progress::kComplete;
    std::size_t consumed = 0;  // of the given bytes: they belong to this message
  };
  // Takes what of `bytes` belongs to the body. kNeedMore: all of it, and more to come;
  // kComplete: `consumed` bytes end the message; kError: error() says why.
  Step Read(std::string_view bytes, const Http1Limits& limits);
  [[nodiscard]] bool complete() const { return state_ == State::kDone; }
  // Whether the end of the connection ends this body well.
  [[nodiscard]] bool ends_with_connection() const { return state_ == State::kUntilEnd; }
  [[nodiscard]] Http1Error error() const { return error_; }

 private:
  // Where in a body the next byte is:
  //   kCounted, kUntilEnd   plain data
  //   kSizeFirst -> kSize -> (kExtension) -> kSizeLf -> kData -> kDataCr -> kDataLf -> kSizeFirst
  //   size 0: kSizeLf -> kTrailerStart -> (kTrailerName -> kTrailerValue -> kTrailerLf)* ->
  //   kLastLf -> kDone
  enum class State : std::uint8_t {
    kDone,
    kCounted,
    kUntilEnd,
    kSizeFirst,
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerStart,
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kLastLf,
    kFailed,
  };

  std::size_t TakeData(std::size_t available);
  void TakeByte(char byte, const Http1Limits& limits);
  void TakeSizeByte(char byte);
  void TakeTrailerByte(char byte, const Http1Limits& limits);
  void Expect(bool met, State next, Http1Error error);
  void Fail(Http1Error error);

  std::uint64_t remaining_ = 0;   // of counted data or of this chunk
  std::uint32_t line_bytes_ = 0;  // of a chunk's size line, or of all trailers
  std::uint32_t trailer_count_ = 0;
  State state_ = State::kDone;
  Http1Error error_ = Http1Error::kNone;
};

}  // namespace weir::http
