// H2Relay: what comes in, frame by frame.
#include "agent/http/h2_relay.h"

#include <algorithm>
#include <utility>

namespace weir::http {
namespace {

// Of a frame's header, whose highest bit is reserved (RFC 9113 section 4.1).
constexpr std::size_t kReservedBitByte = 5;

constexpr std::uint32_t kMaxPings = 1000;  // unanswered ones that are counted

// What a violation of the framing is called.
H2Violation ViolationOf(const H2Event& event) {
  switch (event.error) {
    case H2Error::kFrameSizeError:
      return H2Violation::kFrameSize;
    case H2Error::kEnhanceYourCalm:
      return event.header.type == H2FrameType::kSettings ? H2Violation::kSettingsFlood
                                                         : H2Violation::kHeaderBlockTooLarge;
    default:
      return H2Violation::kBadFrame;
  }
}

// Odd ids are the client's. The server's own would be pushes, which nobody allows.
bool IsClientStream(std::uint32_t id) {
  return id % 2 == 1;
}

}  // namespace

H2Relay::Direction::Direction(const H2RelayLimits& limits)
    : reader({.max_frame_bytes = kH2DefaultFrameBytes,
              .max_header_frame_bytes = kH2MaxBlockBytes,
              .relayed = true}),
      decoder({.max_list_bytes = limits.max_header_bytes,
               .max_fields = limits.max_header_count,
               .abort_list_bytes = kH2MaxDecodedBytes}),
      encoder(kH2DefaultHeaderTableBytes) {}

H2Relay::H2Relay(const H2RelayLimits& limits, H2RelayScratch& scratch, H2RelayHandler& handler)
    : limits_(limits),
      scratch_(scratch),
      handler_(handler),
      directions_{Direction(limits), Direction(limits)} {}

bool H2Relay::waiting_for_headers() const {
  const Direction& dir = directions_[static_cast<std::size_t>(H2Side::kClient)];
  return !closed() && (!dir.settings_seen || dir.block_stream != 0);
}

std::span<const std::uint8_t> H2Relay::Receive(H2Side from, std::span<const std::uint8_t> bytes,
                                               base::MonotonicTime now, const Output& out) {
  if (closed()) {
    return {};
  }
  Turn turn{.from = from, .dir = From(from), .out = out};
  turn.dir.guard.Advance(now);
  if (from == H2Side::kClient && preface_have_ < kH2Preface.size()) {
    TakePreface(turn, bytes);
  }
  while (!bytes.empty() && !closed()) {
    const std::uint8_t* begin = turn.dir.reader.at_frame_border() ? bytes.data() : nullptr;
    const H2Event event = turn.dir.reader.Next(bytes);
    if (event.kind != H2EventKind::kNeedMore) {
      if (begin != nullptr && (begin[kReservedBitByte] & 0x80U) != 0) {
        begin = nullptr;  // must not be passed on: the header is written anew
      }
      TakeEvent(turn, event, begin, bytes.data());
    }
  }
  turn.dir.reader.Trim();
  if (closed() || turn.run_begin == turn.run_end) {
    return {};
  }
  return {turn.run_begin, turn.run_end};
}

void H2Relay::TakePreface(Turn& turn, std::span<const std::uint8_t>& bytes) {
  const std::size_t count = std::min(bytes.size(), kH2Preface.size() - preface_have_);
  const bool matches =
      std::ranges::equal(bytes.first(count), kH2Preface.substr(preface_have_, count),
                         [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); });
  if (!matches) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadPreface);
    return;
  }
  PassRaw(turn, bytes.data(), bytes.data() + count);
  preface_have_ = static_cast<std::uint8_t>(preface_have_ + count);
  bytes = bytes.subspan(count);
}

// `begin` is where the frame begins in the input, null if that was in an earlier call; it
// reaches to `end`.
void H2Relay::TakeEvent(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                        const std::uint8_t* end) {
  const H2FrameHeader& header = event.header;
  Direction& dir = turn.dir;
  if (event.kind == H2EventKind::kError) {
    Fail(turn, event.error, ViolationOf(event));
    return;
  }
  const bool is_settings = header.type == H2FrameType::kSettings;
  if (!dir.settings_seen && (!is_settings || header.Has(kH2FlagAck))) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadPreface);
    return;
  }
  const bool continues = header.type == H2FrameType::kContinuation;
  if ((dir.block_stream != 0) != continues || (continues && header.stream_id != dir.block_stream)) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadFrame);
    return;
  }
  if (event.kind == H2EventKind::kData) {
    OnDataPart(turn, event, begin, end);
  } else if (is_settings) {
    OnSettings(turn, event, begin, end);
  } else if (header.type == H2FrameType::kHeaders) {
    OnHeaders(turn, event);
  } else if (continues) {
    OnContinuation(turn, event);
  } else {
    OnControl(turn, event, begin, end);
  }
}

// ---- DATA, and frames of unknown types, in parts ----

void H2Relay::OnDataPart(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                         const std::uint8_t* end) {
  Direction& dir = turn.dir;
  const bool first = !dir.in_data;
  if (first) {
    BeginData(turn, event);
    if (closed()) {
      return;
    }
    dir.in_data = true;
  }
  if (!dir.dropping) {
    if (first && begin == nullptr) {
      Flush(turn);
      AppendFrameHeader(SinkTo(Other(turn.from), turn.out), event.header);
    }
    const bool with_header = first && begin != nullptr;
    const std::size_t part = event.payload.size() + event.padding_bytes;
    PassRaw(turn, with_header ? begin : end - part, end);
  }
  if (event.frame_ends) {
    EndData(turn, event.header);
  }
}

void H2Relay::BeginData(Turn& turn, const H2Event& event) {
  const H2FrameHeader& header = event.header;
  Direction& dir = turn.dir;
  dir.dropping = false;
  if (header.type != H2FrameType::kData) {
    (void)Allow(turn, FloodGuard::Kind::kUnknownFrame);  // closes the relay if not
    return;
  }
  if (!IsClientStream(header.stream_id) || header.stream_id > last_stream_) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadStreamId);
    return;
  }
  if (event.frame_data_bytes == 0 && !header.Has(kH2FlagEndStream) &&
      !Allow(turn, FloodGuard::Kind::kEmptyData)) {
    return;
  }
  Stream* stream = Find(header.stream_id);
  if (stream == nullptr) {
    return;  // closed: its end was passed on, the receiver knows what to do
  }
  const bool ended = turn.from == H2Side::kClient ? stream->client_ended : stream->server_ended;
  if (ended && !stream->dead) {
    Fail(turn, H2Error::kStreamClosed, H2Violation::kStreamState);
    return;
  }
  if (turn.from == H2Side::kServer && !stream->responded && !stream->dead) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kStreamState);  // section 8.1
    return;
  }
  dir.dropping = stream->dead;
  if (!stream->dead) {
    std::uint64_t& bytes =
        turn.from == H2Side::kClient ? stream->bytes_to_server : stream->bytes_to_client;
    bytes += kH2FrameHeaderBytes + header.length;
    From(Other(turn.from)).guard.OnDataSent(event.frame_data_bytes);
  }
}

void H2Relay::EndData(Turn& turn, const H2FrameHeader& header) {
  Direction& dir = turn.dir;
  dir.in_data = false;
  if (std::exchange(dir.dropping, false)) {
    InjectCredit(turn, turn.from, header.length);
  } else if (header.type == H2FrameType::kData && header.Has(kH2FlagEndStream)) {
    if (Stream* stream = Find(header.stream_id)) {
      EndSide(turn, header.stream_id, *stream);
    }
  }
  SendInjected(turn);
}

// ---- the small frames ----

void H2Relay::OnControl(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                        const std::uint8_t* end) {
  if (AdmitControl(turn, event)) {
    Pass(turn, event, begin, end);
  }
}

// False: not passed on, or the relay is closed.
bool H2Relay::AdmitControl(Turn& turn, const H2Event& event) {
  const H2FrameHeader& header = event.header;
  switch (header.type) {
    case H2FrameType::kPriority:
      return Allow(turn, FloodGuard::Kind::kPriority);
    case H2FrameType::kRstStream:
      return OnReset(turn, event);
    case H2FrameType::kPing:
      return OnPing(turn, header);
    case H2FrameType::kGoAway:
      return Allow(turn, FloodGuard::Kind::kSettings);
    case H2FrameType::kWindowUpdate:
      return AdmitWindowUpdate(turn, event);
    case H2FrameType::kData:
    case H2FrameType::kHeaders:
    case H2FrameType::kSettings:
    case H2FrameType::kPushPromise:
    case H2FrameType::kContinuation:
      break;
  }
  Fail(turn, H2Error::kProtocolError, H2Violation::kBadFrame);
  return false;
}

bool H2Relay::AdmitWindowUpdate(Turn& turn, const H2Event& event) {
  const std::uint32_t id = event.header.stream_id;
  if ((ReadU32(event.payload) & kH2LastStreamId) == 0) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kFlowControl);
    return false;
  }
  if (id != 0 && (!IsClientStream(id) || id > last_stream_)) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadStreamId);
    return false;
  }
  if (!Allow(turn, FloodGuard::Kind::kWindowUpdate)) {
    return false;
  }
  const Stream* stream = id == 0 ? nullptr : Find(id);
  return stream == nullptr || !stream->dead;
}

bool H2Relay::OnReset(Turn& turn, const H2Event& event) {
  const std::uint32_t id = event.header.stream_id;
  if (!IsClientStream(id) || id > last_stream_) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadStreamId);
    return false;
  }
  const auto code = static_cast<H2Error>(ReadU32(event.payload));
  const bool by_client = turn.from == H2Side::kClient;
  Stream* stream = Find(id);
  const bool early = by_client && stream != nullptr && !stream->responded;
  if (!Allow(turn, early ? FloodGuard::Kind::kEarlyReset : FloodGuard::Kind::kReset)) {
    return false;
  }
  if (stream == nullptr) {
    return true;
  }
  if (stream->dead) {
    return false;
  }
  // A client that makes the server reset its streams by breaking the protocol on them is no
  // better than one that resets them itself.
  const bool provoked = !by_client && !stream->responded &&
                        (code == H2Error::kProtocolError || code == H2Error::kFlowControlError ||
                         code == H2Error::kStreamClosed || code == H2Error::kFrameSizeError);
  if (provoked && !From(H2Side::kClient).guard.Allow(FloodGuard::Kind::kEarlyReset)) {
    Flush(turn);
    Close(H2Side::kClient, H2Error::kEnhanceYourCalm, H2Violation::kRapidReset, turn.out);
    return false;
  }
  // Section 8.1: after a complete answer a server may reset what is left of the request.
  const bool complete = !by_client && stream->server_ended && code == H2Error::kNoError;
  const H2StreamEnd::By by = complete    ? H2StreamEnd::By::kBothSides
                             : by_client ? H2StreamEnd::By::kClient
                                         : H2StreamEnd::By::kServer;
  const Stream ended = *stream;
  streams_.erase(id);
  Finish(id, ended, by, code);
  return true;
}

// An answer to a PING is owed; anything else is counted.
bool H2Relay::OnPing(Turn& turn, const H2FrameHeader& header) {
  if (header.Has(kH2FlagAck)) {
    std::uint32_t& owed = From(Other(turn.from)).pings;
    if (owed > 0) {
      --owed;
      return true;
    }
    return Allow(turn, FloodGuard::Kind::kPing);
  }
  turn.dir.pings = std::min(turn.dir.pings + 1, kMaxPings);
  return Allow(turn, FloodGuard::Kind::kPing);
}

bool H2Relay::Allow(Turn& turn, FloodGuard::Kind kind) {
  if (turn.dir.guard.Allow(kind)) {
    return true;
  }
  Fail(turn, H2Error::kEnhanceYourCalm, FloodGuard::ViolationOf(kind));
  return false;
}

}  // namespace weir::http
