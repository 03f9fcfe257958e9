// H2Relay: what goes out, and how streams end.
#include <algorithm>
#include <array>
#include <utility>

#include "agent/http/h2_relay.h"

namespace weir::http {
namespace {

// Own frames that wait for the end of a frame that is passed on in parts.
constexpr std::size_t kMaxInjectedBytes = 65536;

// A frame of at most 13 bytes, for Inject.
class SmallFrame final : public ByteSink {
 public:
  [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t /*least*/) override { return bytes_; }
  void Commit(std::size_t count) override { size_ = count; }
  [[nodiscard]] std::span<const std::uint8_t> frame() const {
    return std::span(bytes_).first(size_);
  }

 private:
  std::array<std::uint8_t, kH2FrameHeaderBytes + 4> bytes_{};
  std::size_t size_ = 0;
};

void AppendBytes(ByteSink& sink, std::span<const std::uint8_t> bytes) {
  std::ranges::copy(bytes, sink.Prepare(bytes.size()).begin());
  sink.Commit(bytes.size());
}

}  // namespace

void H2Relay::Flush(Turn& turn) {
  if (turn.run_begin != turn.run_end) {
    AppendBytes(SinkTo(Other(turn.from), turn.out), {turn.run_begin, turn.run_end});
  }
  turn.run_begin = turn.run_end = nullptr;
}

// Passes a whole frame on: as it lies in the input, or from its parts.
void H2Relay::Pass(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                   const std::uint8_t* end) {
  if (begin != nullptr) {
    PassRaw(turn, begin, end);
    return;
  }
  Flush(turn);
  AppendFrame(SinkTo(Other(turn.from), turn.out), event.header, event.payload);
}

void H2Relay::PassRaw(Turn& turn, const std::uint8_t* begin, const std::uint8_t* end) {
  if (begin == end) {
    return;
  }
  if (turn.run_end != begin) {
    Flush(turn);
    turn.run_begin = begin;
  }
  turn.run_end = end;
}

// Sends frames of the relay's own to `to`: now, or when the frame ends that is on its way
// there in parts, or behind the SETTINGS that must come first.
void H2Relay::Inject(Turn& turn, H2Side to, std::span<const std::uint8_t> frame) {
  Direction& dir = From(Other(to));
  if (dir.settings_seen && (!dir.in_data || dir.dropping)) {
    if (to != turn.from) {
      Flush(turn);
    }
    AppendBytes(SinkTo(to, turn.out), frame);
    return;
  }
  dir.injected.insert(dir.injected.end(), frame.begin(), frame.end());
  if (dir.injected.size() > kMaxInjectedBytes) {
    Fail(turn, H2Error::kEnhanceYourCalm, H2Violation::kReplyBacklog);
  }
}

// What waited for this: `turn.from` is at the border of two frames.
void H2Relay::SendInjected(Turn& turn) {
  if (!turn.dir.injected.empty()) {
    const std::vector<std::uint8_t> frames = std::exchange(turn.dir.injected, {});
    Inject(turn, Other(turn.from), frames);
  }
}

void H2Relay::InjectReset(Turn& turn, H2Side to, std::uint32_t id, H2Error code) {
  SmallFrame frame;
  AppendRstStream(frame, id, code);
  Inject(turn, to, frame.frame());
}

void H2Relay::InjectCredit(Turn& turn, H2Side to, std::uint32_t bytes) {
  if (bytes > 0) {
    SmallFrame frame;
    AppendWindowUpdate(frame, 0, bytes);
    Inject(turn, to, frame.frame());
  }
}

void H2Relay::Fail(Turn& turn, H2Error code, H2Violation violation) {
  if (!closed()) {
    Flush(turn);
    Close(turn.from, code, violation, turn.out);
  }
}

void H2Relay::Close(H2Side offender, H2Error code, H2Violation violation, const Output& out) {
  violation_ = violation;
  error_ = code;
  offender_ = offender;
  for (const H2Side to : {H2Side::kClient, H2Side::kServer}) {
    const Direction& dir = From(Other(to));
    // In the middle of a frame there is no place for another, and a server that got no
    // preface yet would not understand one.
    const bool may_begin =
        (!dir.in_data || dir.dropping) && (to == H2Side::kClient || dir.settings_seen);
    if (may_begin) {
      if (!dir.settings_seen) {
        AppendSettings(SinkTo(to, out), {});  // RFC 9113 section 3.4
      }
      AppendGoAway(SinkTo(to, out), to == H2Side::kClient ? last_stream_ : 0,
                   to == offender ? code : H2Error::kNoError,
                   to == offender ? ToString(violation) : std::string_view());
    }
  }
}

void H2Relay::Drain(const Output& out) {
  Direction& dir = From(H2Side::kServer);
  Turn turn{.from = H2Side::kServer, .dir = dir, .out = out};
  if (!closed()) {
    std::array<std::uint8_t, 8> payload{};
    WriteU32(payload.data(), kH2LastStreamId);
    std::array<std::uint8_t, kH2FrameHeaderBytes + payload.size()> frame{};
    frame[2] = payload.size();
    frame[3] = static_cast<std::uint8_t>(H2FrameType::kGoAway);
    std::ranges::copy(payload, frame.begin() + kH2FrameHeaderBytes);
    Inject(turn, H2Side::kClient, frame);
  }
}

H2Relay::Stream* H2Relay::Find(std::uint32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

// `turn.from` sent its last frame on the stream.
void H2Relay::EndSide(Turn& turn, std::uint32_t id, Stream& stream) {
  (turn.from == H2Side::kClient ? stream.client_ended : stream.server_ended) = true;
  if (stream.client_ended && stream.server_ended && !stream.dead) {
    const Stream ended = stream;
    streams_.erase(id);
    Finish(id, ended, H2StreamEnd::By::kBothSides, H2Error::kNoError);
  }
}

H2StreamEnd H2Relay::StateOf(std::uint32_t id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? H2StreamEnd{}
                                 : H2StreamEnd{.bytes_to_server = found->second.bytes_to_server,
                                               .bytes_to_client = found->second.bytes_to_client};
}

void H2Relay::Finish(std::uint32_t id, const Stream& stream, H2StreamEnd::By by, H2Error code) {
  handler_.OnStreamEnd(id, {.by = by,
                            .code = code,
                            .bytes_to_server = stream.bytes_to_server,
                            .bytes_to_client = stream.bytes_to_client});
}

}  // namespace weir::http
