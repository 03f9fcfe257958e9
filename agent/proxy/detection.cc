// StreamSession: what the first bytes say.
#include <optional>
#include <utility>

#include "agent/database/detect.h"
#include "agent/proxy/http2_relay.h"
#include "agent/proxy/request_trace.h"
#include "agent/proxy/stream_session.h"
#include "agent/tls/client_hello.h"

namespace weir::proxy {
namespace {
constexpr std::size_t kMaxServerNameBytes = 255;

// An HTTP/2 server may send its SETTINGS at once; nothing else begins like that.
bool BeginsWithSettings(io::Bytes bytes) {
  constexpr std::size_t kSettingBytes = 6;
  constexpr std::size_t kMostSettings = 32;
  if (bytes.size() < http::kH2FrameHeaderBytes) {
    return false;
  }
  const auto header = http::ParseFrameHeader(bytes.first<http::kH2FrameHeaderBytes>());
  return header.type == http::H2FrameType::kSettings && header.flags == 0 &&
         header.stream_id == 0 && header.length % kSettingBytes == 0 &&
         header.length <= kMostSettings * kSettingBytes;
}

std::optional<database::System> SystemOf(model::ProtocolHint hint) {
  switch (hint) {
    case model::ProtocolHint::kPostgresql:
      return database::System::kPostgresql;
    case model::ProtocolHint::kMysql:
      return database::System::kMysql;
    case model::ProtocolHint::kRedis:
      return database::System::kRedis;
    default:
      return std::nullopt;
  }
}

}  // namespace

using observe::Protocol;

void StreamSession::SetDetection(model::ProtocolHint hint) {
  hint_ = hint;
  if (hint == model::ProtocolHint::kMysql) {
    StartDatabase(database::System::kMysql);
  }
  if (hint == model::ProtocolHint::kTcp || model::SpeaksFirst(hint) ||
      context_.opaque.Knows(flow_.destination.endpoint, context_.loop.now())) {
    phase_ = StreamPhase::kOpaque;
  }
}

void StreamSession::TakeEarlyBytes(io::Bytes bytes) {
  if (!bytes.empty()) {
    from_client_.owed += bytes.size();
    OnClientBytes(bytes);
    Balance();
  }
}

void StreamSession::OnClientBytes(io::Bytes bytes) {
  if (first_client_byte_ == base::MonotonicTime{}) {
    first_client_byte_ = context_.loop.now();
  }
  if (held_.empty() && TakesClientBytes()) {
    PassToUpstream(bytes);
    return;
  }
  held_.Append(bytes);
  if (phase_ == StreamPhase::kDetecting) {
    Classify(http::DetectMode::kMoreMayCome);
  }
}

void StreamSession::Classify(http::DetectMode mode) {
  const http::Detected detected = http::Detect(held_.Readable(), mode);
  if (detected == http::Detected::kNeedMore ||
      (detected == http::Detected::kTls && !ClassifyTls(mode))) {
    if (!client_timer_.armed()) {
      client_timer_.Arm(context_.DetectTimeout(hint_));
    }
    return;
  }
  client_timer_.Cancel();
  Decide(detected);
}

// Whether the wait for the server's name is over.
bool StreamSession::ClassifyTls(http::DetectMode mode) {
  tls::ClientHello hello = tls::ParseClientHello(held_.Readable());
  if (hello.status == tls::HelloStatus::kNeedMore && mode == http::DetectMode::kMoreMayCome &&
      held_.size() < tls::kMaxClientHelloWireBytes) {
    return false;
  }
  if (hello.server_name.size() <= kMaxServerNameBytes) {
    flow_.sni = observe::CleanText(hello.server_name, kMaxServerNameBytes);
  }
  return true;
}

void StreamSession::Decide(http::Detected detected) {
  const auto said = SystemOf(hint_);
  if (said && detected != http::Detected::kTls) {
    detected = http::Detected::kOpaque;  // Redis knows a GET, too
  }
  if (!StaysAdmitted(detected)) {
    return;
  }
  switch (detected) {
    case http::Detected::kHttp1:
      StartHttp1();
      break;
    case http::Detected::kHttp2Preface:
      StartHttp2();
      TellProtocol();
      break;
    case http::Detected::kTls:
      flow_.protocol = Protocol::kTls;
      phase_ = StreamPhase::kOpaque;
      break;
    case http::Detected::kOpaque:
    case http::Detected::kNeedMore:
      phase_ = StreamPhase::kOpaque;
      if (const auto system = said ? said : database::DetectClient(held_.Readable())) {
        StartDatabase(*system);
      }
      break;
  }
  FlushHeld();
  if (!server_held_.empty() && !done()) {
    const io::ByteBuffer bytes = std::exchange(server_held_, io::ByteBuffer());
    PassToDownstream(bytes.Readable());
  }
}

void StreamSession::BecomeOpaque() {
  client_timer_.Cancel();
  Decide(http::Detected::kOpaque);
}

TracerOptions StreamSession::TraceOptions() const {
  TracerOptions options;
  if (client_side_ != nullptr) {
    options.client = &client_side_->trace;
    options.joins_headers = client_side_->causality != model::Causality::kOff;
  }
  if (server_side_ != nullptr) {
    options.server = &server_side_->trace;
    options.from_outside = flow_.mtls == observe::MtlsState::kOff;  // an address proves nobody
  }
  return options;
}

http::H2RelayLimits StreamSession::Http2Limits() const {
  const model::Limits& limits = snapshot_->limits();
  http::H2RelayLimits http2{.max_header_bytes = limits.max_header_bytes,
                            .max_header_count = limits.max_header_count};
  if (client_side_ == nullptr && flow_.mtls == observe::MtlsState::kTunnel) {
    constexpr std::uint32_t kFieldOverheadBytes = 32;  // RFC 9113 section 6.5.2
    http2.max_header_bytes += kAddedHeaderBytes + kAddedHeaderCount * kFieldOverheadBytes;
    http2.max_header_count += kAddedHeaderCount;
  }
  return http2;
}

void StreamSession::StartHttp1() {
  const model::Limits& limits = snapshot_->limits();
  Http1Options options{.limits = {.max_start_line_bytes = limits.max_request_line_bytes,
                                  .max_header_bytes = limits.max_header_bytes,
                                  .max_header_count = limits.max_header_count},
                       .h2_limits = Http2Limits(),
                       .trace = TraceOptions(),
                       .keep_query_values = context_.options.keep_query_values,
                       .gate = this};
  if (client_side_ == nullptr && flow_.mtls == observe::MtlsState::kTunnel) {
    options.limits.max_header_bytes += kAddedHeaderBytes;
    options.limits.max_header_count += kAddedHeaderCount;
  }
  if (server_side_ != nullptr) {
    options.max_open_requests = 1;  // so that a connection to the application is one at a time
  }
  relay_ =
      std::make_unique<Http1Relay>(context_.http, options, static_cast<ExchangeHandler&>(*this));
  flow_.protocol = Protocol::kHttp1;
  phase_ = StreamPhase::kHttp;
}

void StreamSession::StartHttp2() {
  const Http2Options options{.limits = Http2Limits(),
                             .trace = TraceOptions(),
                             .keep_query_values = context_.options.keep_query_values,
                             .gate = this};
  relay_ =
      std::make_unique<Http2Relay>(context_.http, options, static_cast<ExchangeHandler&>(*this));
  flow_.protocol = Protocol::kHttp2;
  phase_ = StreamPhase::kHttp;
}

// `rest` is what the server sent behind its 101.
void StreamSession::UpgradeToHttp2(io::Bytes rest) {
  StopTelling();  // its first stream was begun as another kind of request
  Http1Upgrade upgrade = static_cast<Http1Relay&>(*relay_).TakeUpgrade();
  const io::ByteBuffer from_client = std::move(upgrade.held);
  StartHttp2();
  static_cast<Http2Relay&>(*relay_).BeginUpgraded(std::move(upgrade));
  const HttpRelay::Output out{context_.to_upstream, context_.to_downstream};
  Deliver(relay_->OnUpstreamBytes(rest, out), /*from_client=*/false);
  if (phase_ == StreamPhase::kHttp) {
    Deliver(relay_->OnDownstreamBytes(from_client.Readable(), out), /*from_client=*/true);
  }
  if (phase_ == StreamPhase::kHttp) {
    WatchHeaders();
  }
}

// The commands are the client's: where it is not at hand, the connection is only called so.
void StreamSession::StartDatabase(database::System system) {
  flow_.protocol = database::ProtocolOf(system);
  if (client_side_ != nullptr && database_ == nullptr) {
    database_ = std::make_unique<DatabaseObserver>(system, context_.http, context_.stats,
                                                   TracerOptions{.client = &client_side_->trace},
                                                   static_cast<ExchangeHandler&>(*this));
  }
}

void StreamSession::ObserveClient(io::Bytes bytes) {
  if (database_ != nullptr && !done()) {
    database_->OnClientBytes(bytes);
    LookAtDatabaseEnd();
  }
}

void StreamSession::ObserveServer(io::Bytes bytes) {
  const bool is_first = flow_.bytes_received == bytes.size() && flow_.bytes_sent == 0;
  if (is_first && hint_ == model::ProtocolHint::kNone && !done() &&
      flow_.destination.endpoint.port == database::kMysqlPort && database::IsMysqlGreeting(bytes)) {
    StartDatabase(database::System::kMysql);
  }
  if (database_ != nullptr && !done()) {
    database_->OnServerBytes(bytes);
    LookAtDatabaseEnd();
  }
}

// Once it does not follow any more, the connection is as opaque as any.
void StreamSession::LookAtDatabaseEnd() {
  switch (database_->end()) {
    case database::TapEnd::kFollowing:
      return;
    case database::TapEnd::kTls:
      flow_.protocol = Protocol::kTls;
      break;
    case database::TapEnd::kMalformed:
    case database::TapEnd::kUnexpected:
      if (exchanges_ == 0) {
        flow_.protocol = Protocol::kOpaque;  // it only looked like that
      }
      break;
    default:  // the protocol is what it is
      break;
  }
  switched_ = true;
  database_.reset();
}

void StreamSession::OnServerSpeaksFirst(io::Bytes bytes) {
  if (!server_held_.empty() || BeginsWithSettings(bytes)) {
    // Waits for the client's preface, as long as detection may take.
    server_held_.Append(bytes);
    if (!client_timer_.armed()) {
      client_timer_.Arm(context_.DetectTimeout(hint_));
    }
    return;
  }
  context_.opaque.Remember(flow_.destination.endpoint, context_.loop.now());
  BecomeOpaque();
  if (!done()) {
    PassToDownstream(bytes);
  }
}

void StreamSession::OnClientTimer() {
  switch (phase_) {
    case StreamPhase::kDetecting:
      context_.stats.detect_timeouts.Add();
      Classify(http::DetectMode::kFinal);
      Balance();
      return;
    case StreamPhase::kHttp: {
      if (!relay_->waiting_for_headers()) {
        return;
      }
      const base::Nanoseconds limit = snapshot_->limits().request_header_timeout;
      const base::Nanoseconds waited = context_.loop.now() - relay_->head_began();
      if (waited < limit) {
        client_timer_.Arm(limit - waited);
        return;
      }
      if (from_client_.paused) {
        client_timer_.Arm(limit);  // it is not the client that is slow
        return;
      }
      Deliver(relay_->OnHeaderTimeout({context_.to_upstream, context_.to_downstream}),
              /*from_client=*/false);
      Balance();
      return;
    }
    case StreamPhase::kLingering:
      End(observe::Reason::kNone);
      return;
    case StreamPhase::kOpaque:
    case StreamPhase::kDone:
      return;
  }
}

}  // namespace weir::proxy
