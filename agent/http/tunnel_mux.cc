#include "agent/http/tunnel_mux.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "agent/base/check.h"

namespace weir::http {
namespace {

// A storm of 5,000 resets a second is remembered for 100 ms: what was under way for them
// must not be held against the peer.
constexpr std::size_t kRecentlyResetCount = 512;
// Refreshed this often while data flows, so that a changed route shows.
constexpr auto kRoundTripAge = std::chrono::seconds(10);

}  // namespace

TunnelMux::TunnelMux(const TunnelMuxConfig& config, TunnelOutput& output, TunnelMuxHandler& handler,
                     WindowBudget& budget)
    : config_(config),
      output_(output),
      handler_(handler),
      budget_(budget),
      reader_({.max_frame_bytes = config.max_received_frame_bytes,
               .max_header_frame_bytes = config.max_header_block_bytes}),
      decoder_(config.headers) {}

TunnelMux::~TunnelMux() {
  WEIR_CHECK(!receiving_);
  budget_.Give(budget_taken_bytes_);
}

void TunnelMux::Start(base::MonotonicTime now) {
  now_ = now;
  if (is_client()) {
    const std::span<std::uint8_t> room = output_.Prepare(kH2Preface.size());
    std::memcpy(room.data(), kH2Preface.data(), kH2Preface.size());
    output_.Commit(kH2Preface.size());
  }
  // A server must not speak of push, a client has no streams of the peer to limit.
  const std::array<H2SettingValue, 5> settings = {{
      {H2Setting::kHeaderTableSize, 0},
      is_client() ? H2SettingValue{H2Setting::kEnablePush, 0}
                  : H2SettingValue{H2Setting::kMaxConcurrentStreams, config_.max_peer_streams},
      {H2Setting::kInitialWindowSize, config_.stream_window_bytes},
      {H2Setting::kMaxFrameSize, config_.max_received_frame_bytes},
      {H2Setting::kMaxHeaderListSize, config_.headers.max_list_bytes},
  }};
  AppendSettings(output_, settings);
  receive_ = {.available = kH2DefaultWindowBytes, .target = kH2DefaultWindowBytes};
  receive_.updated_us = now_us();
  const std::uint32_t more = config_.tunnel_window_bytes - kH2DefaultWindowBytes;
  if (more > 0 && budget_.Take(more)) {
    budget_taken_bytes_ = more;
    receive_.Raise(config_.tunnel_window_bytes);
    AppendWindowUpdate(output_, 0, receive_.TakeUpdate());
  }
}

void TunnelMux::OnOutputDrained(base::MonotonicTime now) {
  now_ = now;
  unsent_replies_ = 0;
  RunQueue();
}

void TunnelMux::ConnectionLost() {
  closed_ = true;
  ResetAllStreams();
}

bool TunnelMux::CanOpen() const {
  return is_client() && !closed_ && !goaway_sent_ && !goaway_received_ &&
         next_stream_id_ <= kH2LastStreamId && active_streams_ < peer_.max_streams;
}

std::expected<TunnelStreamId, OpenError> TunnelMux::OpenStream(std::string_view authority,
                                                               std::span<const H2Field> fields,
                                                               TunnelStreamHandler& handler) {
  WEIR_CHECK(is_client());
  if (closed_) {
    return std::unexpected(OpenError::kClosed);
  }
  if (goaway_sent_ || goaway_received_) {
    return std::unexpected(OpenError::kDraining);
  }
  if (next_stream_id_ > kH2LastStreamId) {
    return std::unexpected(OpenError::kIdsExhausted);
  }
  if (active_streams_ >= peer_.max_streams) {
    slot_wanted_ = true;
    return std::unexpected(OpenError::kAtPeerLimit);
  }
  const TunnelStreamId id = next_stream_id_;
  next_stream_id_ += 2;
  AddStream(id, &handler);
  std::vector<H2Field> all;
  all.reserve(fields.size() + 2);
  all.push_back({":method", "CONNECT"});
  all.push_back({":authority", authority});
  all.insert(all.end(), fields.begin(), fields.end());
  SendHeaders(id, all, 0);
  return id;
}

bool TunnelMux::Accept(TunnelStreamId id) {
  TunnelStreamState* const stream = streams_.Find(id);
  if (is_client() || stream == nullptr || stream->answered) {
    return false;
  }
  stream->answered = true;
  const std::array<H2Field, 1> fields = {{{":status", "200"}}};
  SendHeaders(id, fields, 0);
  return true;
}

void TunnelMux::Refuse(TunnelStreamId id, std::uint16_t status, std::span<const H2Field> fields) {
  WEIR_CHECK(status >= 300 && status <= 599);
  const TunnelStreamState* const stream = streams_.Find(id);
  if (is_client() || stream == nullptr || stream->answered) {
    return;
  }
  const std::string text = std::to_string(status);
  std::vector<H2Field> all = {{":status", text}};
  all.insert(all.end(), fields.begin(), fields.end());
  SendHeaders(id, all, kH2FlagEndStream);
  if (!stream->remote_ended) {
    // The answer is complete; NO_ERROR asks the client to stop (RFC 9113 section 8.1).
    AppendRstStream(output_, id, H2Error::kNoError);
    RememberReset(id);
  }
  Forget(id);
}

std::size_t TunnelMux::Write(TunnelStreamId id, std::span<const std::uint8_t> bytes) {
  TunnelStreamState* const stream = streams_.Find(id);
  if (closed_ || stream == nullptr || stream->local_ended || (!is_client() && !stream->answered)) {
    return 0;
  }
  const std::size_t most_in_frame = std::min(peer_.max_frame_bytes, config_.max_sent_frame_bytes);
  std::size_t written = 0;
  while (written < bytes.size()) {
    const std::int64_t credit = std::min<std::int64_t>(stream->send_window, send_window_);
    const std::size_t allowed = std::min(output_.Room(), most_in_frame);
    const std::size_t count =
        credit <= 0 ? 0
                    : std::min({bytes.size() - written, allowed, static_cast<std::size_t>(credit)});
    if (count == 0) {
      stream->wants_write = true;
      // Its own window's update tells it; for the rest it stands in the queue.
      if (stream->send_window > 0) {
        Enqueue(*stream);
      }
      break;
    }
    AppendFrame(output_, {.type = H2FrameType::kData, .stream_id = id},
                bytes.subspan(written, count));
    stream->send_window -= static_cast<std::int32_t>(count);
    send_window_ -= static_cast<std::int64_t>(count);
    guard_.OnDataSent(count);
    written += count;
  }
  return written;
}

void TunnelMux::EndStream(TunnelStreamId id) {
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr || stream->local_ended) {
    return;
  }
  if (!is_client() && !stream->answered) {
    ResetStream(id, H2Error::kCancel);  // there is no answer that could end
    return;
  }
  AppendFrame(output_, {.type = H2FrameType::kData, .flags = kH2FlagEndStream, .stream_id = id},
              {});
  stream->local_ended = true;
  stream->wants_write = false;
  OnHalfEnded(id);
}

void TunnelMux::ResetStream(TunnelStreamId id, H2Error code) {
  const TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr) {
    return;
  }
  if (!stream->ended() && !closed_) {
    AppendRstStream(output_, id, code);
    if (!stream->remote_ended) {
      RememberReset(id);
    }
  }
  Forget(id);
}

void TunnelMux::ReturnCredit(TunnelStreamId id, std::size_t count, base::MonotonicTime now) {
  now_ = now;
  TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr) {
    return;
  }
  WEIR_CHECK(count <= stream->receive.held);
  const auto bytes = static_cast<std::uint32_t>(count);
  stream->receive.held -= bytes;
  stream->receive.returned += bytes;
  if (stream->ended() && stream->receive.held == 0) {
    streams_.Erase(id);
  } else {
    UpdateStreamWindow(*stream);
  }
  receive_.held -= bytes;
  ReturnTunnelCredit(bytes);
}

void TunnelMux::Ping(base::MonotonicTime now) {
  now_ = now;
  if (!ping_sent_ && !closed_) {
    SendPing();
  }
}

void TunnelMux::SendPing() {
  AppendPing(output_, ++ping_opaque_, 0);
  ping_sent_ = now_;
}

void TunnelMux::Drain(base::MonotonicTime now) {
  now_ = now;
  if (goaway_sent_ || closed_) {
    return;
  }
  goaway_sent_ = true;
  if (is_client()) {
    AppendGoAway(output_, 0, H2Error::kNoError, "drain");
    return;
  }
  // Requests under way are still taken; one round trip later the true limit follows.
  AppendGoAway(output_, kH2LastStreamId, H2Error::kNoError, "drain");
  drain_ping_ = true;
  SendPing();
}

void TunnelMux::Close(H2Error code, std::string_view debug) {
  if (closed_) {
    return;
  }
  AppendGoAway(output_, highest_peer_stream_, code, debug);
  goaway_sent_ = true;
  ConnectionLost();
}

bool TunnelMux::drained() const {
  return (goaway_sent_ || goaway_received_) && !drain_ping_ && streams_.size() == 0;
}

std::size_t TunnelMux::memory_bytes() const {
  return streams_.memory_bytes() +
         (queue_.capacity() + recently_reset_.capacity()) * sizeof(TunnelStreamId) +
         header_block_.capacity();
}

void TunnelMux::Trim() {
  reader_.Trim();
  fields_.Clear();
  fields_.Trim();
  if (header_block_of_.stream_id == 0) {
    header_block_ = {};
  }
  if (queue_.empty()) {
    queue_ = {};
  }
}

TunnelStreamState& TunnelMux::AddStream(TunnelStreamId id, TunnelStreamHandler* handler) {
  TunnelStreamState& stream = streams_.Insert(id);
  stream.handler = handler;
  stream.send_window = static_cast<std::int32_t>(peer_.initial_window_bytes);
  stream.receive = {.available = config_.stream_window_bytes,
                    .target = config_.stream_window_bytes,
                    .updated_us = now_us()};
  ++active_streams_;
  return stream;
}

void TunnelMux::Forget(TunnelStreamId id) {
  const TunnelStreamState* const stream = streams_.Find(id);
  const std::uint32_t held = stream->receive.held;
  active_streams_ -= stream->ended() ? 0 : 1;
  streams_.Erase(id);
  receive_.held -= held;
  ReturnTunnelCredit(held);
  OfferSlot();
}

void TunnelMux::OnHalfEnded(TunnelStreamId id) {
  const TunnelStreamState* const stream = streams_.Find(id);
  if (stream == nullptr || !stream->ended()) {
    return;
  }
  --active_streams_;
  if (stream->receive.held == 0) {
    streams_.Erase(id);
  }
  OfferSlot();
}

void TunnelMux::ResetAllStreams() {
  while (streams_.size() > 0) {
    const TunnelStreamState stream = streams_.Any();
    streams_.Erase(stream.id);
    if (stream.handler != nullptr && !stream.ended()) {
      stream.handler->OnReset({.code = H2Error::kCancel, .cause = TunnelResetCause::kTunnel});
    }
  }
  active_streams_ = 0;
  queue_.clear();
}

void TunnelMux::OfferSlot() {
  if (slot_wanted_ && CanOpen()) {
    slot_wanted_ = false;
    handler_.OnStreamSlot();
  }
}

void TunnelMux::ReturnTunnelCredit(std::uint32_t count) {
  receive_.returned += count;
  UpdateTunnelWindow();
}

void TunnelMux::UpdateStreamWindow(TunnelStreamState& stream) {
  if (stream.remote_ended || closed_ || !stream.receive.UpdateDue()) {
    return;
  }
  MeasureRoundTrip();
  ReceiveWindow& window = stream.receive;
  // At most half of the tunnel's, so that one stream cannot take it all.
  const std::uint32_t larger =
      std::min({window.target * 2, config_.max_stream_window_bytes, receive_.target / 2});
  if (larger > window.target && DrainedFast(window)) {
    window.Raise(larger);
  }
  window.updated_us = now_us();
  AppendWindowUpdate(output_, stream.id, window.TakeUpdate());
}

void TunnelMux::UpdateTunnelWindow() {
  if (closed_) {
    return;
  }
  const bool due = receive_.SharedUpdateDue();
  // Streams whose consumers stopped hold most of it: without growth they stop the others.
  const bool stuck =
      receive_.available < receive_.target / 4 && receive_.held >= receive_.target / 2;
  if (due || stuck) {
    const bool grown = (stuck || DrainedFast(receive_)) && GrowTunnelWindow();
    if (due || grown) {
      receive_.updated_us = now_us();
      AppendWindowUpdate(output_, 0, receive_.TakeUpdate());
    }
  }
}

bool TunnelMux::GrowTunnelWindow() {
  const std::uint32_t larger = std::min(receive_.target * 2, config_.max_tunnel_window_bytes);
  if (larger <= receive_.target || !budget_.Take(larger - receive_.target)) {
    return false;
  }
  budget_taken_bytes_ += larger - receive_.target;
  receive_.Raise(larger);
  return true;
}

bool TunnelMux::DrainedFast(const ReceiveWindow& window) const {
  using std::chrono::microseconds;
  const auto limit = std::chrono::duration_cast<microseconds>(round_trip_ * 2);
  return round_trip_.count() > 0 && microseconds(now_us() - window.updated_us) < limit;
}

void TunnelMux::MeasureRoundTrip() {
  if (!ping_sent_ && (round_trip_.count() == 0 || now_ - round_trip_measured_ > kRoundTripAge)) {
    SendPing();
  }
}

void TunnelMux::SendHeaders(TunnelStreamId id, std::span<const H2Field> fields,
                            std::uint8_t flags) {
  std::vector<std::uint8_t> block;
  encoder_.Encode(fields, block);
  std::span<const std::uint8_t> rest(block);
  H2FrameHeader header{.type = H2FrameType::kHeaders, .flags = flags, .stream_id = id};
  do {
    const auto part = rest.first(std::min<std::size_t>(rest.size(), peer_.max_frame_bytes));
    rest = rest.subspan(part.size());
    if (rest.empty()) {
      header.flags |= kH2FlagEndHeaders;
    }
    AppendFrame(output_, header, part);
    header.type = H2FrameType::kContinuation;
    header.flags = 0;
  } while (!rest.empty());
}

void TunnelMux::NotifyWritable(TunnelStreamState& stream) {
  stream.wants_write = false;
  if (stream.handler != nullptr) {
    stream.handler->OnWritable();
  }
}

void TunnelMux::Enqueue(TunnelStreamState& stream) {
  if (stream.queued) {
    return;
  }
  // Streams that ended while they waited leave their ids behind.
  if (queue_.size() > 2 * streams_.size() + 64) {
    std::erase_if(queue_, [this](TunnelStreamId id) { return streams_.Find(id) == nullptr; });
  }
  stream.queued = true;
  queue_.push_back(stream.id);
}

void TunnelMux::RunQueue() {
  std::vector<TunnelStreamId> turn;
  turn.swap(queue_);
  std::size_t next = 0;
  // Each stream has one go: whoever comes up short again stands behind the others, and
  // nobody is asked without credit and room.
  for (; next < turn.size() && !closed_ && send_window_ > 0 && output_.Room() > 0; ++next) {
    TunnelStreamState* const stream = streams_.Find(turn[next]);
    if (stream == nullptr) {
      continue;
    }
    stream->queued = false;
    if (stream->wants_write && stream->send_window > 0) {
      NotifyWritable(*stream);
    }
  }
  if (!closed_ && next < turn.size()) {
    queue_.insert(queue_.begin(), turn.begin() + static_cast<std::ptrdiff_t>(next), turn.end());
  }
}

bool TunnelMux::RecentlyReset(TunnelStreamId id) const {
  return std::ranges::find(recently_reset_, id) != recently_reset_.end();
}

void TunnelMux::RememberReset(TunnelStreamId id) {
  if (recently_reset_.size() < kRecentlyResetCount) {
    recently_reset_.push_back(id);
    return;
  }
  recently_reset_[recently_reset_next_] = id;
  recently_reset_next_ = (recently_reset_next_ + 1) % kRecentlyResetCount;
}

std::uint32_t TunnelMux::now_us() const {
  using std::chrono::microseconds;
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<microseconds>(now_.time_since_epoch()).count());
}

}  // namespace weir::http
