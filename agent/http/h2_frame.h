#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

// HTTP/2 frames (RFC 9113 sections 4 to 7): reading from a stream of bytes and writing.
// Pure data in, pure data out; nothing here knows the state of a stream.
namespace weir::http {

inline constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr std::size_t kH2FrameHeaderBytes = 9;
inline constexpr std::uint32_t kH2DefaultFrameBytes = 16384;     // RFC 9113 section 6.5.2
inline constexpr std::uint32_t kH2LargestFrameBytes = 16777215;  // the same
inline constexpr std::uint32_t kH2DefaultWindowBytes = 65535;    // RFC 9113 section 6.9.2
inline constexpr std::uint32_t kH2LargestWindowBytes = 2147483647;
inline constexpr std::uint32_t kH2DefaultHeaderTableBytes = 4096;
inline constexpr std::uint32_t kH2LastStreamId = 2147483647;

// RFC 9113 section 7.
enum class H2Error : std::uint32_t {
  kNoError = 0,
  kProtocolError = 1,
  kInternalError = 2,
  kFlowControlError = 3,
  kSettingsTimeout = 4,
  kStreamClosed = 5,
  kFrameSizeError = 6,
  kRefusedStream = 7,
  kCancel = 8,
  kCompressionError = 9,
  kConnectError = 10,
  kEnhanceYourCalm = 11,
  kInadequateSecurity = 12,
  kHttp11Required = 13,
};

// RFC 9113 section 6; a received type may be any byte.
enum class H2FrameType : std::uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};

inline constexpr std::uint8_t kH2FlagAck = 0x1;
inline constexpr std::uint8_t kH2FlagEndStream = 0x1;
inline constexpr std::uint8_t kH2FlagEndHeaders = 0x4;
inline constexpr std::uint8_t kH2FlagPadded = 0x8;
inline constexpr std::uint8_t kH2FlagPriority = 0x20;

// RFC 9113 section 6.5.2.
enum class H2Setting : std::uint16_t {
  kHeaderTableSize = 1,
  kEnablePush = 2,
  kMaxConcurrentStreams = 3,
  kInitialWindowSize = 4,
  kMaxFrameSize = 5,
  kMaxHeaderListSize = 6,
};

struct H2FrameHeader {
  std::uint32_t length = 0;  // of the payload, 24 bits
  H2FrameType type = H2FrameType::kData;
  std::uint8_t flags = 0;
  std::uint32_t stream_id = 0;  // 31 bits; the reserved bit is dropped
  [[nodiscard]] bool Has(std::uint8_t flag) const { return (flags & flag) != 0; }
};

// Big-endian numbers at the front of `bytes`, which must be long enough.
std::uint16_t ReadU16(std::span<const std::uint8_t> bytes);
std::uint32_t ReadU32(std::span<const std::uint8_t> bytes);
H2FrameHeader ParseFrameHeader(std::span<const std::uint8_t, kH2FrameHeaderBytes> bytes);
// Writes `value` in network order to the front of `out`, which has room for it.
void WriteU32(std::uint8_t* out, std::uint32_t value);

// ByteSink takes what a codec produces: room at the back of somebody's buffer.
class ByteSink {
 public:
  ByteSink() = default;
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;
  // Room for `least` bytes or more; Commit says how many of them were written.
  [[nodiscard]] virtual std::span<std::uint8_t> Prepare(std::size_t least) = 0;
  virtual void Commit(std::size_t count) = 0;

 protected:
  ~ByteSink() = default;
};

// Each appends one frame. `header.length` of AppendFrame is taken from the payload.
void AppendFrame(ByteSink& sink, H2FrameHeader header, std::span<const std::uint8_t> payload);
// The 9 bytes in front of a payload of `header.length` bytes, which follow by other means.
void AppendFrameHeader(ByteSink& sink, const H2FrameHeader& header);
struct H2SettingValue {
  H2Setting id;
  std::uint32_t value;
};
void AppendSettings(ByteSink& sink, std::span<const H2SettingValue> settings);
void AppendSettingsAck(ByteSink& sink);
void AppendWindowUpdate(ByteSink& sink, std::uint32_t stream_id, std::uint32_t increment);
void AppendRstStream(ByteSink& sink, std::uint32_t stream_id, H2Error code);
void AppendPing(ByteSink& sink, std::uint64_t opaque, std::uint8_t flags);
void AppendGoAway(ByteSink& sink, std::uint32_t last_stream_id, H2Error code,
                  std::string_view debug);

// What FrameReader found next.
enum class H2EventKind : std::uint8_t {
  kNeedMore,  // all bytes are consumed
  kFrame,     // a whole frame; `payload` is all of it, without padding
  kData,      // a part of a DATA frame
  kError      // a violation of the framing: `error` (of the connection)
};

struct H2Event {
  H2EventKind kind = H2EventKind::kNeedMore;
  H2Error error = H2Error::kNoError;
  H2FrameHeader header;
  // kFrame: GOAWAY's is cut at kGoAwayKeptBytes, an unknown type's is empty; HEADERS come
  // without padding and priority fields. kData: a part of the data. Valid until the next
  // call of Next and while the bytes given to it are.
  std::span<const std::uint8_t> payload{};
  // HEADERS: their priority fields (RFC 9113 section 6.2), 5 bytes, or nothing.
  std::span<const std::uint8_t> priority{};
  // kData: bytes of this part that are flow-controlled but no data (the pad length, padding).
  std::uint32_t padding_bytes = 0;
  std::uint32_t frame_data_bytes = 0;  // kData: data in the whole frame
  bool frame_ends = false;             // kData: the frame's last part
};

struct H2ReaderLimits {
  std::uint32_t max_frame_bytes = kH2DefaultFrameBytes;  // as announced in our SETTINGS
  // HEADERS and CONTINUATION: a longer frame is an error (kEnhanceYourCalm).
  std::uint32_t max_header_frame_bytes = kH2DefaultFrameBytes;
  std::uint32_t max_settings_count = 64;  // in a frame
  // For whoever passes frames on: frames of unknown types come in parts, as kData with
  // their own type, and a GOAWAY comes whole (a longer one than kH2DefaultFrameBytes is an
  // error, kEnhanceYourCalm).
  bool relayed = false;
};

// FrameReader cuts a stream of bytes into frames, wherever the bytes are split. DATA is
// handed on in parts, as it comes; other frames are small and handed on whole (without a
// copy where the bytes at hand hold all of it). Checks what a frame alone can show: sizes,
// zero or nonzero stream id, padding. Its state is a few plain fields.
class FrameReader {
 public:
  static constexpr std::size_t kGoAwayKeptBytes = 8 + 256;

  explicit FrameReader(const H2ReaderLimits& limits) : limits_(limits) {}

  // Takes bytes off the front of `bytes` up to the next event. After kError every
  // further call is a kError.
  H2Event Next(std::span<const std::uint8_t>& bytes);

  // Takes effect with the next frame header.
  void set_max_frame_bytes(std::uint32_t bytes) { limits_.max_frame_bytes = bytes; }

  // Whether the reader is between two frames.
  [[nodiscard]] bool at_frame_border() const { return state_ == State::kHeader && have_ == 0; }
  // Frees memory that is not needed between frames.
  void Trim();

 private:
  enum class State : std::uint8_t {
    kHeader,     // collecting the 9 bytes
    kPadLength,  // of a padded DATA frame
    kData,       // data, left_ bytes of it
    kPadding,    // of a DATA frame, left_ bytes
    kBuffered,   // any other frame, left_ bytes
    kSkipped,    // what is not kept of a GOAWAY or an unknown frame, left_ bytes
    kFailed
  };
  H2Event Fail(H2Error error);
  // What to do after the header; kNoError, or the violation that it shows.
  H2Error Begin();
  H2Error CheckHeader() const;
  H2Error CheckLength() const;
  bool TakeHeader(std::span<const std::uint8_t>& bytes);
  H2Event DataEvent(std::span<const std::uint8_t> payload, std::uint32_t padding_bytes);
  H2Event NextPadLength(std::span<const std::uint8_t>& bytes);
  H2Event NextData(std::span<const std::uint8_t>& bytes);
  H2Event NextPadding(std::span<const std::uint8_t>& bytes);
  H2Event NextBuffered(std::span<const std::uint8_t>& bytes);
  H2Event NextSkipped(std::span<const std::uint8_t>& bytes);
  H2Event FinishBuffered(std::span<const std::uint8_t> payload);

  H2ReaderLimits limits_;
  std::array<std::uint8_t, kH2FrameHeaderBytes> partial_header_{};
  H2FrameHeader header_;
  std::uint32_t left_ = 0;           // bytes of the present state still to come
  std::uint32_t skipped_after_ = 0;  // bytes to skip after a kept beginning (GOAWAY)
  std::uint32_t data_bytes_ = 0;     // in the present DATA frame
  std::uint8_t padding_ = 0;         // of the present DATA frame
  std::uint8_t have_ = 0;            // bytes in partial_header_
  State state_ = State::kHeader;
  H2Error error_ = H2Error::kNoError;   // once failed
  std::vector<std::uint8_t> buffered_;  // a payload that came in pieces
};

}  // namespace weir::http
