// The receiving half of TunnelMux: what each frame of the peer does.
#include <algorithm>
#include <array>

#include "agent/base/check.h"
#include "agent/http/connect_fields.h"
#include "agent/http/tunnel_mux.h"

namespace weir::http {
namespace {

// Answers (ACKs, resets, statuses) that may wait for a peer that does not read.
constexpr std::uint32_t kMaxUnsentReplies = 16384;

}  // namespace

void TunnelMux::Receive(std::span<const std::uint8_t> bytes, base::MonotonicTime now) {
  WEIR_CHECK(!receiving_);
  receiving_ = true;
  now_ = now;
  guard_.Advance(now);
  if (!is_client()) {
    TakePreface(bytes);
  }
  while (!closed_) {
    const H2Event event = reader_.Next(bytes);
    if (event.kind == H2EventKind::kNeedMore) {
      break;
    }
    OnEvent(event);
  }
  receiving_ = false;
}

void TunnelMux::TakePreface(std::span<const std::uint8_t>& bytes) {
  while (preface_matched_ < kH2Preface.size() && !bytes.empty() && !closed_) {
    if (bytes.front() != static_cast<std::uint8_t>(kH2Preface[preface_matched_])) {
      Fail(H2Error::kProtocolError, TunnelViolation::kBadPreface);
      return;
    }
    ++preface_matched_;
    bytes = bytes.subspan(1);
  }
}

void TunnelMux::OnEvent(const H2Event& event) {
  if (event.kind == H2EventKind::kError) {
    OnReaderError(event);
    return;
  }
  const H2FrameHeader& header = event.header;
  if (!peer_.received && (header.type != H2FrameType::kSettings || header.Has(kH2FlagAck))) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadPreface);
    return;
  }
  const bool continues =
      header.type == H2FrameType::kContinuation && header.stream_id == header_block_of_.stream_id;
  if (header_block_of_.stream_id != 0 && !continues) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadFrame);
    return;
  }
  if (event.kind == H2EventKind::kData) {
    OnDataPart(event);
  } else {
    OnFrame(event);
  }
}

void TunnelMux::OnReaderError(const H2Event& event) {
  TunnelViolation violation = TunnelViolation::kBadFrame;
  if (event.error == H2Error::kFrameSizeError) {
    violation = TunnelViolation::kFrameSize;
  } else if (event.error == H2Error::kEnhanceYourCalm) {
    violation = event.header.type == H2FrameType::kSettings ? TunnelViolation::kSettingsFlood
                                                            : TunnelViolation::kHeaderBlockTooLarge;
  }
  Fail(event.error, violation);
}

void TunnelMux::OnFrame(const H2Event& event) {
  switch (event.header.type) {
    case H2FrameType::kHeaders:
      OnHeaders(event);
      return;
    case H2FrameType::kContinuation:
      OnContinuation(event);
      return;
    case H2FrameType::kPriority:
      (void)AllowOrFail(FloodGuard::Kind::kPriority);  // a failure has been acted on
      return;
    case H2FrameType::kRstStream:
      OnRstStream(event);
      return;
    case H2FrameType::kSettings:
      OnSettings(event);
      return;
    case H2FrameType::kPing:
      OnPing(event);
      return;
    case H2FrameType::kGoAway:
      OnGoAwayFrame(event);
      return;
    case H2FrameType::kWindowUpdate:
      OnWindowUpdate(event);
      return;
    case H2FrameType::kData:         // comes as parts
    case H2FrameType::kPushPromise:  // the reader refuses it
      break;
  }
  (void)AllowOrFail(FloodGuard::Kind::kUnknownFrame);  // ignored (RFC 9113 section 5.5)
}

void TunnelMux::OnDataPart(const H2Event& event) {
  const TunnelStreamId id = event.header.stream_id;
  const auto data_bytes = static_cast<std::uint32_t>(event.payload.size());
  const std::uint32_t total_bytes = data_bytes + event.padding_bytes;
  if (!WasOpened(id)) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadStreamId);
    return;
  }
  if (total_bytes > receive_.available) {
    Fail(H2Error::kFlowControlError, TunnelViolation::kFlowControl);
    return;
  }
  const bool ends_stream = event.frame_ends && event.header.Has(kH2FlagEndStream);
  if (event.frame_ends && event.frame_data_bytes == 0 && !ends_stream &&
      !AllowOrFail(FloodGuard::Kind::kEmptyData)) {
    return;
  }
  receive_.available -= total_bytes;
  TunnelStreamState* stream = streams_.Find(id);
  if (stream == nullptr || stream->remote_ended || (is_client() && !stream->answered) ||
      total_bytes > stream->receive.available) {
    ReturnTunnelCredit(total_bytes);
    OnMisplacedData(event, stream);
    return;
  }
  stream->receive.available -= total_bytes;
  stream->receive.held += data_bytes;
  receive_.held += data_bytes;
  if (event.padding_bytes > 0) {
    stream->receive.returned += event.padding_bytes;
    UpdateStreamWindow(*stream);
  }
  ReturnTunnelCredit(event.padding_bytes);
  if (data_bytes > 0) {
    stream->handler->OnData(event.payload);
  }
  if (ends_stream && !closed_) {
    EndStreamByPeer(id);
  }
}

void TunnelMux::OnMisplacedData(const H2Event& event, const TunnelStreamState* stream) {
  const TunnelStreamId id = event.header.stream_id;
  if (stream == nullptr) {
    // What was under way when we reset the stream is no fault; its credit is back already.
    if (event.frame_ends && !RecentlyReset(id) && id <= goaway_limit_) {
      Reject(id, H2Error::kStreamClosed);
    }
  } else if (stream->remote_ended) {
    FailStream(id, H2Error::kStreamClosed);
  } else if (is_client() && !stream->answered) {
    FailStream(id, H2Error::kProtocolError);
  } else {
    FailStream(id, H2Error::kFlowControlError);
  }
}

void TunnelMux::EndStreamByPeer(TunnelStreamId id) {
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr) {
    return;  // a callback has reset it
  }
  stream->remote_ended = true;
  TunnelStreamHandler* const handler = stream->handler;
  if (stream->local_ended) {
    OnHalfEnded(id);  // the stream may be gone now; its handler still hears of the end
  }
  handler->OnEnd();
}

void TunnelMux::OnHeaders(const H2Event& event) {
  const TunnelStreamId id = event.header.stream_id;
  if (id % 2 == 0 || (is_client() && !WasOpened(id))) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadStreamId);
    return;
  }
  if (event.header.Has(kH2FlagEndHeaders)) {
    OnHeaderBlock(event.header, event.payload);
    return;
  }
  header_block_of_ = event.header;
  header_block_.assign(event.payload.begin(), event.payload.end());
  continuations_ = 0;
}

void TunnelMux::OnContinuation(const H2Event& event) {
  if (header_block_of_.stream_id == 0) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadFrame);
    return;
  }
  if (++continuations_ > config_.max_continuations) {
    Fail(H2Error::kEnhanceYourCalm, TunnelViolation::kContinuationFlood);
    return;
  }
  if (header_block_.size() + event.payload.size() > config_.max_header_block_bytes) {
    Fail(H2Error::kEnhanceYourCalm, TunnelViolation::kHeaderBlockTooLarge);
    return;
  }
  header_block_.insert(header_block_.end(), event.payload.begin(), event.payload.end());
  if (event.header.Has(kH2FlagEndHeaders)) {
    const H2FrameHeader header = header_block_of_;
    header_block_of_ = {};
    OnHeaderBlock(header, header_block_);
  }
}

void TunnelMux::OnHeaderBlock(const H2FrameHeader& header, std::span<const std::uint8_t> block) {
  // Decoded whatever becomes of the stream: the coder's state is the connection's.
  const auto decoded = decoder_.Decode(block, fields_);
  if (!decoded && decoded.error() == HpackError::kMalformed) {
    Fail(H2Error::kCompressionError, TunnelViolation::kCompression);
    return;
  }
  const bool too_large = !decoded.has_value();
  const TunnelStreamId id = header.stream_id;
  if (!is_client() && id > highest_peer_stream_) {
    highest_peer_stream_ = id;
    OnNewRequest(header, too_large);
    return;
  }
  const TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr) {
    if (!RecentlyReset(id) && id <= goaway_limit_) {
      Reject(id, H2Error::kStreamClosed);
    }
  } else if (stream->remote_ended) {
    FailStream(id, H2Error::kStreamClosed);
  } else if (!is_client() || stream->answered) {
    FailStream(id, H2Error::kProtocolError);  // no trailers on a tunnel (section 8.5)
  } else {
    OnResponse(header, too_large);
  }
}

void TunnelMux::OnNewRequest(const H2FrameHeader& header, bool too_large) {
  const TunnelStreamId id = header.stream_id;
  if (id > goaway_limit_) {
    return;  // as GOAWAY has said
  }
  if (too_large) {
    Reject(id, H2Error::kEnhanceYourCalm);
    return;
  }
  const std::optional<std::string_view> authority = ParseConnectRequest(fields_);
  if (!authority) {
    Reject(id, H2Error::kProtocolError);
    return;
  }
  // Streams that are over but whose bytes nobody has taken yet have a limit, too.
  if (active_streams_ >= config_.max_peer_streams ||
      streams_.size() >= 2ULL * config_.max_peer_streams) {
    Reject(id, H2Error::kRefusedStream);
    return;
  }
  if (!CountReplyOrFail()) {
    return;
  }
  AddStream(id, nullptr);
  TunnelStreamHandler* const handler =
      handler_.OnStreamOpened(id, {.authority = *authority, .fields = fields_});
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr) {
    return;
  }
  if (handler == nullptr) {
    ResetStream(id, H2Error::kRefusedStream);
    return;
  }
  stream->handler = handler;
  if (header.Has(kH2FlagEndStream)) {
    EndStreamByPeer(id);
  }
}

void TunnelMux::OnResponse(const H2FrameHeader& header, bool too_large) {
  const TunnelStreamId id = header.stream_id;
  const bool ends_stream = header.Has(kH2FlagEndStream);
  const std::optional<std::uint16_t> status =
      too_large ? std::nullopt : ParseConnectStatus(fields_);
  if (!status || (*status < 200 && ends_stream)) {
    FailStream(id, H2Error::kProtocolError);
    return;
  }
  if (*status < 200) {
    (void)AllowOrFail(FloodGuard::Kind::kUnknownFrame);  // says nothing to a tunnel
    return;
  }
  TunnelStreamState* const stream = streams_.Find(id);
  TunnelStreamHandler* const handler = stream->handler;
  if (*status < 300) {
    stream->answered = true;
    handler->OnAccepted(*status);
    if (ends_stream && !closed_) {
      EndStreamByPeer(id);
    }
    return;
  }
  stream->remote_ended = ends_stream;
  active_streams_ -= stream->ended() ? 1 : 0;
  ResetStream(id, H2Error::kCancel);
  handler->OnRefused(*status, fields_);
}

void TunnelMux::OnSettings(const H2Event& event) {
  if (event.header.Has(kH2FlagAck)) {
    OnSettingsAck();
    return;
  }
  if (!AllowOrFail(FloodGuard::Kind::kSettings)) {
    return;
  }
  if (!peer_.received) {
    peer_.received = true;
    peer_.max_streams = kH2LastStreamId;  // no limit unless it names one
  }
  const std::uint32_t old_window_bytes = peer_.initial_window_bytes;
  for (auto rest = event.payload; !rest.empty(); rest = rest.subspan(6)) {
    const H2Error error =
        ApplySetting(static_cast<H2Setting>(ReadU16(rest)), ReadU32(rest.subspan(2)));
    if (error != H2Error::kNoError) {
      Fail(error, TunnelViolation::kBadSettings);
      return;
    }
  }
  // Before anything that callbacks send: the peer's decoder counts from here.
  AppendSettingsAck(output_);
  if (!CountReplyOrFail()) {
    return;
  }
  if (peer_.initial_window_bytes > old_window_bytes) {
    std::vector<TunnelStreamId> writable;
    streams_.ForEach([&](const TunnelStreamState& stream) {
      if (stream.wants_write && !stream.queued && stream.send_window > 0) {
        writable.push_back(stream.id);
      }
    });
    for (const TunnelStreamId id : writable) {
      OfferWrite(id);
    }
  }
  OfferSlot();
}

void TunnelMux::OnSettingsAck() {
  if (settings_acknowledged_) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadSettings);
    return;
  }
  settings_acknowledged_ = true;
  decoder_.OnSettingsAcknowledged(0);
}

H2Error TunnelMux::ApplySetting(H2Setting id, std::uint32_t value) {
  switch (id) {
    case H2Setting::kHeaderTableSize:
      encoder_.OnPeerTableSize(value);
      return H2Error::kNoError;
    case H2Setting::kEnablePush:
      return value > (is_client() ? 0U : 1U) ? H2Error::kProtocolError : H2Error::kNoError;
    case H2Setting::kMaxConcurrentStreams:
      peer_.max_streams = value;
      return H2Error::kNoError;
    case H2Setting::kInitialWindowSize:
      return ApplyInitialWindow(value);
    case H2Setting::kMaxFrameSize:
      if (value < kH2DefaultFrameBytes || value > kH2LargestFrameBytes) {
        return H2Error::kProtocolError;
      }
      peer_.max_frame_bytes = value;
      return H2Error::kNoError;
    case H2Setting::kMaxHeaderListSize:  // ours are small
      return H2Error::kNoError;
  }
  return H2Error::kNoError;  // unknown ones are ignored (RFC 9113 section 6.5.2)
}

H2Error TunnelMux::ApplyInitialWindow(std::uint32_t value) {
  if (value > kH2LargestWindowBytes) {
    return H2Error::kFlowControlError;
  }
  const std::int64_t change = std::int64_t{value} - peer_.initial_window_bytes;
  peer_.initial_window_bytes = value;
  bool overflow = false;
  streams_.ForEach([&](TunnelStreamState& stream) {
    const std::int64_t window = stream.send_window + change;
    overflow = overflow || window > kH2LargestWindowBytes;
    stream.send_window =
        static_cast<std::int32_t>(std::clamp<std::int64_t>(window, INT32_MIN, INT32_MAX));
  });
  return overflow ? H2Error::kFlowControlError : H2Error::kNoError;
}

void TunnelMux::OnPing(const H2Event& event) {
  const std::uint64_t opaque =
      (std::uint64_t{ReadU32(event.payload)} << 32U) | ReadU32(event.payload.subspan(4));
  if (event.header.Has(kH2FlagAck)) {
    OnPingAck(opaque);
    return;
  }
  if (AllowOrFail(FloodGuard::Kind::kPing)) {
    AppendPing(output_, opaque, kH2FlagAck);
    (void)CountReplyOrFail();  // a failure has been acted on
  }
}

void TunnelMux::OnPingAck(std::uint64_t opaque) {
  if (!ping_sent_ || opaque != ping_opaque_) {
    (void)AllowOrFail(FloodGuard::Kind::kPing);  // an answer to nothing
    return;
  }
  const base::Nanoseconds sample =
      std::max<base::Nanoseconds>(now_ - *ping_sent_, std::chrono::microseconds(1));
  // The path's round trip is the smallest seen; a longer one moves it slowly.
  round_trip_ = round_trip_.count() == 0 || sample < round_trip_
                    ? sample
                    : round_trip_ + (sample - round_trip_) / 8;
  round_trip_measured_ = now_;
  ping_sent_.reset();
  if (drain_ping_) {
    drain_ping_ = false;
    goaway_limit_ = highest_peer_stream_;
    AppendGoAway(output_, goaway_limit_, H2Error::kNoError, "drain");
  }
}

void TunnelMux::OnGoAwayFrame(const H2Event& event) {
  if (!AllowOrFail(FloodGuard::Kind::kSettings)) {
    return;
  }
  const TunnelGoAway goaway{
      .last_stream_id = ReadU32(event.payload) & kH2LastStreamId,
      .code = static_cast<H2Error>(ReadU32(event.payload.subspan(4))),
      .debug = {reinterpret_cast<const char*>(event.payload.data()) + 8, event.payload.size() - 8}};
  goaway_received_ = true;
  slot_wanted_ = false;
  std::vector<TunnelStreamId> unseen;
  if (is_client()) {
    streams_.ForEach([&](const TunnelStreamState& stream) {
      if (stream.id > goaway.last_stream_id && !stream.ended()) {
        unseen.push_back(stream.id);
      }
    });
  }
  handler_.OnGoAway(goaway);
  for (const TunnelStreamId id : unseen) {
    const TunnelStreamState* const stream = streams_.Find(id);
    if (stream != nullptr) {
      TunnelStreamHandler* const handler = stream->handler;
      Forget(id);
      handler->OnReset({.code = H2Error::kRefusedStream, .cause = TunnelResetCause::kGoAway});
    }
  }
}

void TunnelMux::OnRstStream(const H2Event& event) {
  const TunnelStreamId id = event.header.stream_id;
  if (!WasOpened(id)) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadStreamId);
    return;
  }
  const TunnelStreamState* const stream = streams_.Find(id);
  const bool early = !is_client() && stream != nullptr && !stream->answered;
  if (!AllowOrFail(FloodGuard::Kind::kReset) ||
      (early && !AllowOrFail(FloodGuard::Kind::kEarlyReset)) || stream == nullptr) {
    return;
  }
  if (stream->ended()) {
    return;  // only the consumer still holds bytes of it
  }
  const auto code = static_cast<H2Error>(ReadU32(event.payload));
  const bool refused = code == H2Error::kRefusedStream && is_client() && !stream->answered;
  TunnelStreamHandler* const handler = stream->handler;
  Forget(id);
  handler->OnReset(
      {.code = code, .cause = refused ? TunnelResetCause::kGoAway : TunnelResetCause::kPeer});
}

void TunnelMux::OnWindowUpdate(const H2Event& event) {
  const TunnelStreamId id = event.header.stream_id;
  const std::uint32_t increment = ReadU32(event.payload) & kH2LargestWindowBytes;
  if (!AllowOrFail(FloodGuard::Kind::kWindowUpdate)) {
    return;
  }
  if (id != 0) {
    OnStreamWindowUpdate(id, increment);
    return;
  }
  if (increment == 0) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadFrame);
    return;
  }
  if (send_window_ + increment > kH2LargestWindowBytes) {
    Fail(H2Error::kFlowControlError, TunnelViolation::kFlowControl);
    return;
  }
  send_window_ += increment;
  RunQueue();
}

void TunnelMux::OnStreamWindowUpdate(TunnelStreamId id, std::uint32_t increment) {
  if (!WasOpened(id)) {
    Fail(H2Error::kProtocolError, TunnelViolation::kBadStreamId);
    return;
  }
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr || stream->ended()) {
    return;
  }
  const std::int64_t window = std::int64_t{stream->send_window} + increment;
  if (increment == 0 || window > kH2LargestWindowBytes) {
    FailStream(id, increment == 0 ? H2Error::kProtocolError : H2Error::kFlowControlError);
    return;
  }
  stream->send_window = static_cast<std::int32_t>(window);
  OfferWrite(id);
}

void TunnelMux::OfferWrite(TunnelStreamId id) {
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr || !stream->wants_write || stream->queued || stream->send_window <= 0) {
    return;
  }
  if (send_window_ <= 0 || output_.Room() == 0) {
    Enqueue(*stream);
  } else {
    NotifyWritable(*stream);
  }
}

bool TunnelMux::WasOpened(TunnelStreamId id) const {
  return id % 2 == 1 && (is_client() ? id < next_stream_id_ : id <= highest_peer_stream_);
}

bool TunnelMux::AllowOrFail(FloodGuard::Kind kind) {
  if (guard_.Allow(kind)) {
    return true;
  }
  Fail(H2Error::kEnhanceYourCalm, FloodGuard::ViolationOf(kind));
  return false;
}

bool TunnelMux::CountReplyOrFail() {
  if (++unsent_replies_ <= kMaxUnsentReplies) {
    return true;
  }
  Fail(H2Error::kEnhanceYourCalm, TunnelViolation::kReplyBacklog);
  return false;
}

void TunnelMux::Fail(H2Error code, TunnelViolation violation) {
  if (closed_) {
    return;
  }
  Close(code, ToString(violation));
  handler_.OnConnectionError(code, violation);
}

void TunnelMux::Reject(TunnelStreamId id, H2Error code) {
  if (AllowOrFail(FloodGuard::Kind::kRejectedStream) && CountReplyOrFail()) {
    AppendRstStream(output_, id, code);
    RememberReset(id);
  }
}

void TunnelMux::FailStream(TunnelStreamId id, H2Error code) {
  if (!AllowOrFail(FloodGuard::Kind::kRejectedStream) || !CountReplyOrFail()) {
    return;
  }
  const TunnelStreamState* const stream = streams_.Find(id);
  TunnelStreamHandler* const handler = stream->handler;
  const bool ended = stream->ended();
  AppendRstStream(output_, id, code);
  RememberReset(id);
  Forget(id);
  if (!ended) {
    handler->OnReset({.code = code, .cause = TunnelResetCause::kViolation});
  }
}

}  // namespace weir::http
