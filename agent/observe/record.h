#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/model/snapshot.h"

// The records that the end step of every connection and request makes: one flow
// record, and for HTTP one span. Plain values; workers make them, exporters and the
// admin API read them.
namespace weir::observe {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;
std::string ToHex(const TraceId& id);  // 32 lower-case digits
std::string ToHex(const SpanId& id);   // 16 lower-case digits

enum class Direction : std::uint8_t { kOutbound, kInbound };  // seen from the workload
enum class Protocol : std::uint8_t {
  kOpaque,
  kTls,
  kHttp1,
  kHttp2,
  kGrpc,
  kPostgresql,
  kMysql,
  kRedis
};
enum class Verdict : std::uint8_t { kAllow, kDeny, kBypass, kPassthrough, kError };
enum class MtlsState : std::uint8_t {
  kOff,     // plain text on the wire
  kTunnel,  // mTLS between nodes
  kLocal    // joined on this node: nothing on a wire
};
enum class ParentSource : std::uint8_t { kNone, kHeader, kRuntime, kTurn, kSole };

// Reason tells apart how a connection or request ended other than well; kNone is well.
// Each value is a counter label and the flow's `reason`, by its text.
enum class Reason : std::uint8_t {
  kNone,
  kNoOriginalDestination,  // connected to weir's own listener
  kNoIdentity,             // the workload has no valid SVID
  kUnknownDestination,     // inside the mesh's ranges, not in the registry
  kUpstreamRefused,
  kUpstreamUnreachable,
  kUpstreamTimeout,
  kUpstreamReset,
  kDownstreamReset,
  kTlsHandshakeFailed,
  kTlsHandshakeTimeout,
  kPeerIdentityMismatch,  // a valid SVID of somebody else; like the next two found by this end
  kPeerNodeMismatch,      // its intermediate's node is not where the workload lives
  kPeerUntrusted,         // the chain does not verify
  kRefusedByPeer,         // the far agent does not take our certificate, or us for who we are
  kCertificateExpired,    // the peer's or our own, at the handshake or later
  kPlaintextRefused,      // strict workload, plain text from outside
  kWitnessRefused,        // same-node join without a live witness
  kTunnelClosed,          // GOAWAY, or the tunnel broke under the stream
  kTunnelRefused,         // the far agent answered the CONNECT with an error
  kTunnelProtocol,        // the far agent broke the framing
  kHeaderTimeout,
  kBadRequest,       // RFC 9112 violation, answered 400
  kUriTooLong,       // 414
  kHeadersTooLarge,  // 431
  kBadResponse,      // the application broke RFC 9112, or 9113 on one stream
  kHttp2Protocol,    // an end broke RFC 9113 or flooded: its connection was closed
  kLimitReached,
  kDraining,
  kNamespaceGone,
  kPolicyDenied,
  kInternal,
};
inline constexpr std::size_t kReasonCount = static_cast<std::size_t>(Reason::kInternal) + 1;

std::string_view ToString(Direction value);
std::string_view ToString(Protocol value);
std::string_view ToString(Verdict value);
std::string_view ToString(MtlsState value);
std::string_view ToString(ParentSource value);
std::string_view ToString(Reason value);

// One side of a flow. `workload` is null for somebody outside the mesh.
struct Party {
  std::shared_ptr<const model::Workload> workload;
  base::Endpoint endpoint;
};

// HTTP facts of one request; empty optional in a flow that is a connection.
struct HttpExchange {
  std::string method;      // as sent, cut at 32 bytes
  std::string host;        // Host or authority, cut at 255 bytes
  std::string path;        // without the query, cut at 1,024 bytes on a character border
  std::string query_keys;  // "a&b": keys only; values by an explicit option only
  std::string user_agent;  // cut at 256 bytes
  // By the request's Forwarded or X-Forwarded-* headers, where a proxy before weir says so.
  std::string forwarded_host{};    // what was asked for; cut at 255 bytes
  std::string forwarded_scheme{};  // http or https
  std::string forwarded_client{};  // an IP address
  std::uint16_t status = 0;        // 0: none was seen
  std::uint8_t version_major = 1;
  std::uint8_t version_minor = 1;   // of HTTP/1.x; 0 in HTTP/2
  bool is_grpc = false;             // by its content type
  std::int16_t grpc_status = -1;    // the code that the answer ended with; -1: none was seen
  std::uint32_t request_index = 0;  // on this connection, from 0
};

// What MeshTrace keeps of a request's headers: an attribute of its span, and of its flow.
struct SpanTag {
  std::string name;
  std::string value;  // UTF-8, cut at kMaxTagBytes on a character border
};
inline constexpr std::size_t kMaxTagBytes = 256;

// Facts of one command of a database connection. None of it is a value that was sent or
// stored: the texts are names of operations and of tables, or codes.
struct DatabaseCall {
  std::string_view system;   // db.system.name: postgresql, mysql, mariadb or redis; static text
  std::string operation{};   // "SELECT", of a fixed set; empty: unknown
  std::string collection{};  // the one table that it names; empty: none, several, or unknown
  std::string summary{};     // "INSERT orders SELECT items", at most 255 bytes; empty: unknown
  std::string name_space{};  // the database, or Redis' index of one; empty: unknown
  std::string status{};      // SQLSTATE, MySQL's error number, Redis' error word
  bool is_error = false;     // the server answered with an error
  std::int64_t returned_rows = -1;  // negative: it is not a matter of rows
  std::int64_t affected_rows = -1;
  std::uint32_t batch_size = 0;  // commands of a transaction that is one span; 0: it is none
  std::uint32_t index = 0;       // on this connection, from 0

  // What a span of it is called (semantic conventions, database spans).
  [[nodiscard]] std::string_view name() const {
    return !summary.empty()     ? std::string_view(summary)
           : !operation.empty() ? std::string_view(operation)
                                : system;
  }
};

// What a span of a whole connection is called.
inline constexpr std::string_view kConnectionSpanName = "connection";

// When each part of one flow ended, counted from its start; negative: the part did not happen.
// A later request of a connection waits for neither tunnel nor upstream.
struct Timing {
  base::WallTime start{};
  base::Nanoseconds total{0};
  base::Nanoseconds tunnel_wait{-1};       // until a tunnel was ready, 0 if one was
  base::Nanoseconds upstream_connect{-1};  // until the upstream leg was connected
  base::Nanoseconds first_byte{-1};        // until the first response byte
};

// Flow is one finished connection or request (proto/weir/v1/flow.proto).
struct Flow {
  Direction direction = Direction::kOutbound;
  Protocol protocol = Protocol::kOpaque;
  Verdict verdict = Verdict::kAllow;
  Reason reason = Reason::kNone;
  MtlsState mtls = MtlsState::kOff;
  ParentSource parent_source = ParentSource::kNone;
  bool is_request = false;  // one request or command of a connection, not a whole connection
  bool sampled = false;
  std::uint16_t tls_version = 0;             // 0x0304, 0 without TLS
  std::uint64_t connection_id = 0;           // unique in an agent's life
  std::int64_t peer_certificate_expiry = 0;  // seconds since 1970, 0 without
  std::uint64_t bytes_sent = 0;              // towards the upstream
  std::uint64_t bytes_received = 0;          // from the upstream
  std::uint32_t pid = 0;
  std::array<char, 16> comm{};
  TraceId trace_id{};  // zero: none
  SpanId span_id{};
  SpanId parent_span_id{};   // zero: a root, or no span was made
  std::uint8_t retries = 0;  // of the upstream connection: another port, or news of the registry
  Party source;
  Party destination;   // endpoint: the original destination
  std::string via;     // "tunnel 198.18.0.2:8080", "local", "passthrough"
  std::string sni;     // of an application's own TLS
  std::string policy;  // rule that admitted or refused it; empty where nothing was decided
  std::optional<HttpExchange> http;
  std::vector<SpanTag> tags{};  // of a request, from headers; at most 32, by MeshTrace
  std::shared_ptr<const DatabaseCall> database{};  // of a command; shared, as most flows have none
  Timing timing;
};

// A span elsewhere that this one has to do with, but is not a child of.
struct SpanLink {
  TraceId trace_id{};
  SpanId span_id{};
  std::uint8_t trace_flags = 0;
  bool is_remote = false;  // its context came in a request's headers
  std::string trace_state{};
};
inline constexpr std::size_t kMaxSpanLinks = 8;  // of one span; more are left out

// Why a span is there.
enum class SampledBy : std::uint8_t {
  kHead,   // its trace is sampled
  kError,  // it is not, but the request failed, and such are kept
  kSlow    // it is not, but the request was slow, and such are kept
};

std::string_view ToString(SampledBy value);

// Span of one request, command or connection at one side of it.
struct Span {
  TraceId trace_id{};
  SpanId span_id{};
  SpanId parent_span_id{};  // zero: root
  bool parent_is_remote = false;
  std::uint8_t trace_flags = 1;
  std::string trace_state{};
  bool is_client = false;  // CLIENT where it leaves, SERVER where it arrives
  ParentSource parent_source = ParentSource::kNone;
  SampledBy sampled_by = SampledBy::kHead;
  std::vector<SpanLink> links{};  // at most kMaxSpanLinks
  std::vector<SpanTag> tags{};    // from headers; literal ones are the workload's
};

// Record is what the end step hands on: the flow, and its span when it is a sampled
// request. `local` is the workload whose resource the span belongs to.
struct Record {
  Flow flow;
  std::optional<Span> span;
  std::shared_ptr<const model::LocalWorkload> local;
};

// RecordSink takes the finished records of one worker's loop turn. Worker; must not
// block; what it cannot take it drops and counts by itself.
class RecordSink {
 public:
  RecordSink() = default;
  RecordSink(const RecordSink&) = delete;
  RecordSink& operator=(const RecordSink&) = delete;
  virtual ~RecordSink() = default;
  virtual void Offer(std::vector<Record>&& records) noexcept = 0;
};

// RecordConsumer is fed by the telemetry thread with everything that the sinks took, in
// batches: the flow store, the trace store, an exporter. Telemetry thread; must not block
// for longer than a batch costs.
class RecordConsumer {
 public:
  RecordConsumer() = default;
  RecordConsumer(const RecordConsumer&) = delete;
  RecordConsumer& operator=(const RecordConsumer&) = delete;
  virtual ~RecordConsumer() = default;
  virtual void Consume(const std::vector<Record>& records) noexcept = 0;
};

}  // namespace weir::observe
