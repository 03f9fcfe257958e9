#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/http/flood_guard.h"
#include "agent/http/h2_frame.h"
#include "agent/http/h2_message.h"
#include "agent/http/hpack.h"

// A transparent relay of one HTTP/2 connection (RFC 9113), sans I/O: streams keep their ids,
// DATA, WINDOW_UPDATE and everything else pass as they came, so that flow control is the two
// ends' own business, and only header blocks are decoded, checked and encoded anew. What the
// relay changes:
//   header blocks   by the handler; encoded for the receiver's table and frame size; padding
//                   of HEADERS goes, their priority fields stay
//   SETTINGS        see SanitizeH2Settings
//   rejected        streams whose header lists are malformed or too large: reset towards
//                   both, their bytes swallowed (and given back to the connection's window)
namespace weir::http {

// Which end a frame comes from: requests from the client, answers from the server.
enum class H2Side : std::uint8_t { kClient, kServer };
constexpr H2Side Other(H2Side side) {
  return side == H2Side::kClient ? H2Side::kServer : H2Side::kClient;
}

struct H2RelayLimits {
  // Of a header list, names, values and 32 for each field: more is answered 431, or resets
  // the stream of an answer.
  std::uint32_t max_header_bytes = 65536;
  std::uint32_t max_header_count = 256;
  // Streams that are open at once: announced in SETTINGS, more are refused.
  std::uint32_t max_streams = 1000;
};
// A header list beyond this closes the connection: nobody sends such, and no connection has
// more than this decoded at once.
inline constexpr std::uint32_t kH2MaxDecodedBytes = 1U << 20U;
// The same for a header block as it is encoded, and the frames that it comes in.
inline constexpr std::uint32_t kH2MaxBlockBytes = 128U << 10U;
inline constexpr std::uint32_t kH2MaxContinuations = 64;
// What an end may let the other use as its header table; SETTINGS that say more are lowered.
inline constexpr std::uint32_t kH2MaxHeaderTableBytes = 65536;

// Why the relay itself ended a stream.
enum class H2Reject : std::uint8_t {
  kBadRequest,       // malformed; RST_STREAM(PROTOCOL_ERROR), never seen by the server
  kHeadersTooLarge,  // answered 431, never seen by the server
  kRefused,          // too many streams; RST_STREAM(REFUSED_STREAM), the same
  kBadResponse,      // malformed or too large an answer, or trailers of either side
  kForbidden,        // answered 403, or gRPC's PERMISSION_DENIED; never seen by the server
};
inline constexpr std::uint16_t kH2ForbiddenStatus = 403;
inline constexpr std::int16_t kGrpcPermissionDenied = 7;

// What becomes of a good request.
enum class H2Admission : std::uint8_t { kPass, kRefuse, kForbid };

// How a stream that was passed on ended.
struct H2StreamEnd {
  enum class By : std::uint8_t { kBothSides, kClient, kServer, kRelay };
  By by = By::kBothSides;             // who reset it, if it did not end well
  H2Error code = H2Error::kNoError;   // of that RST_STREAM
  std::uint64_t bytes_to_server = 0;  // its frames of header blocks and data, as they were sent
  std::uint64_t bytes_to_client = 0;
};

// H2RelayHandler hears of the messages. Views die with the call.
class H2RelayHandler {
 public:
  H2RelayHandler() = default;
  H2RelayHandler(const H2RelayHandler&) = delete;
  H2RelayHandler& operator=(const H2RelayHandler&) = delete;

  // A good request opens stream `id`. `fields` is its list, which may be changed before it
  // is sent on; what is added must live until the next call of Receive.
  virtual H2Admission OnRequest(std::uint32_t id, const H2RequestHead& head,
                                std::vector<H2Field>& fields) noexcept = 0;
  // A request that is not passed on; `head` holds what was understood of it.
  virtual void OnRejected(H2Reject why, const H2RequestHead& head) noexcept = 0;
  // A head of an answer, interim ones included.
  virtual void OnResponse(std::uint32_t id, const H2ResponseHead& head) noexcept = 0;
  // The answer's trailers.
  virtual void OnTrailers(std::uint32_t id, const H2FieldList& fields) noexcept = 0;
  // Exactly once for each OnRequest that gave kPass, unless the connection ends before.
  virtual void OnStreamEnd(std::uint32_t id, const H2StreamEnd& end) noexcept = 0;

 protected:
  ~H2RelayHandler() = default;
};

// Memory for one call that the relays of a worker share.
struct H2RelayScratch {
  H2FieldList fields;
  std::vector<H2Field> list;
  std::vector<std::uint8_t> block;
};

// What the SETTINGS of one end say that the relay must know; nothing where they are silent.
struct H2SettingsNotes {
  std::optional<std::uint32_t> table_bytes;
  std::optional<std::uint32_t> max_frame_bytes;
};
struct H2SettingsError {
  H2Error code;
};
// Checks the payload of a SETTINGS frame that `from` sends and makes of it what is passed on,
// in place: server push is switched off, the header table is at most kH2MaxHeaderTableBytes,
// the server's streams and both sides' header lists no more than `limits` admit. `first` (of
// its connection) gets the values that are missing for that.
std::expected<H2SettingsNotes, H2SettingsError> SanitizeH2Settings(
    H2Side from, bool first, const H2RelayLimits& limits, std::vector<std::uint8_t>& payload);

class H2Relay {
 public:
  // Where output is appended; a call may write to both.
  struct Output {
    ByteSink& to_server;
    ByteSink& to_client;
  };

  H2Relay(const H2RelayLimits& limits, H2RelayScratch& scratch, H2RelayHandler& handler);

  // The connection was HTTP/1.1 until its Upgrade to h2c (RFC 7540 section 3.2): stream 1 is
  // open, its request complete, and `settings` are the client's, sanitized. First call, if any.
  void BeginUpgraded(const H2SettingsNotes& settings);

  // Takes bytes of `from`, all of them. The rest of the input that is to be passed on as it
  // is, behind what was appended for the other side, is returned; it dies with the input.
  // Once closed() bytes are dropped.
  std::span<const std::uint8_t> Receive(H2Side from, std::span<const std::uint8_t> bytes,
                                        base::MonotonicTime now, const Output& out);
  // Asks the client to open no more streams (GOAWAY without an error).
  void Drain(const Output& out);
  // Ends the connection for `offender`'s fault: GOAWAY to both where a frame may begin.
  void Close(H2Side offender, H2Error code, H2Violation violation, const Output& out);

  // After a violation: the GOAWAYs are out, nothing more is taken.
  [[nodiscard]] bool closed() const { return violation_ != H2Violation::kNone; }
  [[nodiscard]] H2Violation violation() const { return violation_; }
  [[nodiscard]] H2Error error() const { return error_; }
  [[nodiscard]] H2Side offender() const { return offender_; }
  // The client is in the middle of its preface or of a header block.
  [[nodiscard]] bool waiting_for_headers() const;
  // What an open stream has come to so far.
  [[nodiscard]] H2StreamEnd StateOf(std::uint32_t id) const;
  [[nodiscard]] std::size_t open_streams() const { return streams_.size() - dead_.size(); }

 private:
  struct Stream {
    bool client_ended = false;
    bool server_ended = false;
    bool responded = false;  // the final head of the answer was passed on
    bool dead = false;       // ended by the relay; what still comes is swallowed
    std::uint64_t bytes_to_server = 0;
    std::uint64_t bytes_to_client = 0;
  };
  // What one end sends, and what it needs to be sent on.
  struct Direction {
    explicit Direction(const H2RelayLimits& limits);
    FrameReader reader;
    HpackDecoder decoder;
    HpackEncoder encoder;  // towards the other end
    FloodGuard guard{FloodProfile::kApplication};
    std::vector<H2SettingsNotes> unacknowledged;  // SETTINGS of this end
    std::vector<std::uint8_t> block;              // an unfinished header block
    std::vector<std::uint8_t> injected;           // own frames that wait for the end of a frame
    std::array<std::uint8_t, 5> priority{};       // of the present HEADERS
    std::uint32_t max_frame_bytes = kH2DefaultFrameBytes;  // that the other end takes
    std::uint32_t block_stream = 0;                        // 0: no header block is open
    std::uint32_t block_frames = 0;
    std::uint32_t pings = 0;  // of this end, unanswered
    bool block_ends_stream = false;
    bool block_has_priority = false;
    bool settings_seen = false;
    bool in_data = false;   // a DATA frame (or an unknown one) has begun
    bool dropping = false;  // and is swallowed
  };
  // One call of Receive: its input, and what of it is to be passed on and not yet appended.
  struct Turn {
    H2Side from;
    Direction& dir;
    const Output& out;
    const std::uint8_t* run_begin = nullptr;
    const std::uint8_t* run_end = nullptr;
  };
  struct BlockEnd {
    std::uint32_t stream_id;
    bool ends_stream;
  };

  // h2_relay.cc
  void TakePreface(Turn& turn, std::span<const std::uint8_t>& bytes);
  void TakeEvent(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                 const std::uint8_t* end);
  void OnDataPart(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                  const std::uint8_t* end);
  void BeginData(Turn& turn, const H2Event& event);
  void EndData(Turn& turn, const H2FrameHeader& header);
  void OnControl(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                 const std::uint8_t* end);
  bool AdmitControl(Turn& turn, const H2Event& event);
  bool AdmitWindowUpdate(Turn& turn, const H2Event& event);
  bool OnReset(Turn& turn, const H2Event& event);
  bool OnPing(Turn& turn, const H2FrameHeader& header);
  bool Allow(Turn& turn, FloodGuard::Kind kind);

  // h2_relay_settings.cc
  void OnSettings(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                  const std::uint8_t* end);
  void NoteAcknowledged(H2Side side);
  void LimitReader(H2Side side);

  // h2_relay_headers.cc
  void OnHeaders(Turn& turn, const H2Event& event);
  void OnContinuation(Turn& turn, const H2Event& event);
  void EndBlock(Turn& turn, std::span<const std::uint8_t> block);
  void OnRequestBlock(Turn& turn, const BlockEnd& end, bool too_large);
  void OnResponseBlock(Turn& turn, const BlockEnd& end, bool too_large);
  void OnTrailerBlock(Turn& turn, const BlockEnd& end, Stream& stream, bool too_large);
  void ListFields();
  void SendFields(Turn& turn, const BlockEnd& end, Stream& stream);
  void SendList(Turn& turn, const BlockEnd& end, Stream& stream);
  void AnswerRequest(Turn& turn, const BlockEnd& end, std::span<const H2Field> answer);
  void RejectRequest(Turn& turn, const BlockEnd& end, H2Reject why, const H2RequestHead& head);
  void KillStream(Turn& turn, std::uint32_t id, Stream& stream, H2Error code);
  void Bury(std::uint32_t id, Stream& stream);

  // h2_relay_output.cc
  Direction& From(H2Side side) { return directions_[static_cast<std::size_t>(side)]; }
  static ByteSink& SinkTo(H2Side side, const Output& out) {
    return side == H2Side::kServer ? out.to_server : out.to_client;
  }
  static void Flush(Turn& turn);
  static void Pass(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                   const std::uint8_t* end);
  static void PassRaw(Turn& turn, const std::uint8_t* begin, const std::uint8_t* end);
  void Inject(Turn& turn, H2Side to, std::span<const std::uint8_t> frame);
  void SendInjected(Turn& turn);
  void InjectReset(Turn& turn, H2Side to, std::uint32_t id, H2Error code);
  void InjectCredit(Turn& turn, H2Side to, std::uint32_t bytes);
  void Fail(Turn& turn, H2Error code, H2Violation violation);
  Stream* Find(std::uint32_t id);
  void EndSide(Turn& turn, std::uint32_t id, Stream& stream);
  void Finish(std::uint32_t id, const Stream& stream, H2StreamEnd::By by, H2Error code);

  H2RelayLimits limits_;
  H2RelayScratch& scratch_;
  H2RelayHandler& handler_;
  std::array<Direction, 2> directions_;  // by H2Side
  std::unordered_map<std::uint32_t, Stream> streams_;
  std::vector<std::uint32_t> dead_;  // streams that are dead, the oldest first
  std::uint32_t last_stream_ = 0;    // the client's highest
  std::uint8_t preface_have_ = 0;    // bytes of the client's preface
  H2Side offender_ = H2Side::kClient;
  H2Error error_ = H2Error::kNoError;
  H2Violation violation_ = H2Violation::kNone;
};

}  // namespace weir::http
