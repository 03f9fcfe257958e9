#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/base/ip.h"
#include "agent/model/identity.h"
#include "agent/model/permissions.h"

namespace weir::model {

// LocalId names one workload enrolled on this node while the agent lives. Handed out
// by config (discovery) and never reused in a process's life; 0 is nobody.
enum class LocalId : std::uint32_t { kNone = 0 };

// What the operator says that a port speaks (kuma.io/protocol).
enum class ProtocolHint : std::uint8_t {
  kNone,
  kTcp,
  kTls,
  kHttp,
  kHttp2,
  kGrpc,
  kServerFirst,  // smtp, ssh, ftp, ...: the server sends the first byte
  kPostgresql,
  kMysql,  // server first, too
  kRedis
};
// Whether a server of `hint` sends the first byte.
inline bool SpeaksFirst(ProtocolHint hint) {
  return hint == ProtocolHint::kServerFirst || hint == ProtocolHint::kMysql;
}

// One inbound of a workload.
struct Inbound {
  std::uint16_t port = 0;
  std::string name;
  ProtocolHint hint = ProtocolHint::kNone;
};

// How a tunnel to a workload is opened.
enum class TunnelPort : std::uint8_t {
  kOriginal,   // the destination's own port, ALPN "weir/1"
  kHbone15008  // port 15008, ALPN "h2"
};

// Workload is one entry of the registry: who lives where, from a Dataplane document.
struct Workload {
  std::string name;
  std::string ns;               // "namespace"; empty on VMs
  std::string service_account;  // empty where there is none
  SpiffeId identity;
  std::string node;  // the node that it lives on (label weir.io/node)
  std::vector<base::IpAddress> addresses;
  std::vector<Inbound> inbounds;
  std::map<std::string, std::string> labels;
  TunnelPort tunnel_port = TunnelPort::kOriginal;

  // "ns/name", or "name" without a namespace: how every output names it.
  [[nodiscard]] std::string display_name() const;
  [[nodiscard]] ProtocolHint HintFor(std::uint16_t port) const;
};

enum class TlsMode : std::uint8_t { kStrict, kPermissive };
enum class OnAgentDown : std::uint8_t { kClosed, kOpen };
// How the requests that a workload sends are joined to those that it serves.
enum class Causality : std::uint8_t {
  kOff,      // not at all: each begins a trace
  kHeaders,  // by the trace headers that the application forwards
  kInferred  // and, without them, by what the kernel knows for certain
};

// Runtimes of a workload's programs that say themselves what a request is sent for; only
// with kInferred.
struct RuntimeHooks {
  bool go = false;    // probes in net/http of its Go programs
  bool node = false;  // marks of the preload for Node.js

  friend bool operator==(const RuntimeHooks&, const RuntimeHooks&) = default;
};

// Where the resource attributes service.name and so on come from.
struct ServiceResource {
  std::string service_name;
  std::string service_namespace;
  std::string service_version;
  std::string service_instance_id;
  std::vector<std::pair<std::string, std::string>> attributes;  // k8s.*, host.*
};

// A tag of spans that takes its value from a header of the request.
struct HeaderTag {
  std::string name;
  std::string header;    // in lower case
  std::string fallback;  // without the header; empty: no tag then
};

// Requests whose trace was not sampled and whose span is exported all the same, because of
// how they ended. The rest of their trace may be missing.
struct TailSettings {
  bool errors = false;
  std::chrono::nanoseconds slower_than{0};  // from that on; 0: never for its time

  friend bool operator==(const TailSettings&, const TailSettings&) = default;
};

// Formats of trace context that are always written, besides W3C's and those that came.
struct ExtraTraceFormats {
  bool b3 = false;        // in one header
  bool b3_multi = false;  // in several
  bool jaeger = false;    // uber-trace-id

  friend bool operator==(const ExtraTraceFormats&, const ExtraTraceFormats&) = default;
};

// What MeshTrace and agent.yaml say for a workload.
struct TraceSettings {
  bool enabled = true;
  double sample_ratio = 1.0;  // of traces that begin here
  double client_ratio = 1.0;  // of those whose request has x-client-trace-id
  // name -> literal
  std::vector<std::pair<std::string, std::string>> literal_tags{};
  std::vector<HeaderTag> header_tags{};
  TailSettings tail{};
  bool connections = false;  // a span for each connection that is not looked into
  // Requests from outside the mesh begin a trace of their own, with a link to the caller's.
  bool is_boundary = false;
  ExtraTraceFormats formats{};
};

// LocalWorkload is an enrolled workload of this node: the registry's entry and how
// this node treats it.
struct LocalWorkload {
  LocalId id = LocalId::kNone;
  std::shared_ptr<const Workload> workload;
  TlsMode tls_mode = TlsMode::kStrict;
  OnAgentDown on_agent_down = OnAgentDown::kClosed;
  Causality causality = Causality::kInferred;
  RuntimeHooks runtime_hooks{};
  TraceSettings trace;
  ServiceResource resource;
  WorkloadPermissions permissions{};  // who may call it
};

// Limits that the data path keeps; defaults are the documented ones.
struct Limits {
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds tls_handshake_timeout{5000};    // F20
  std::chrono::milliseconds request_header_timeout{10000};  // F20
  std::chrono::milliseconds detect_timeout_hinted{100};     // F32
  std::chrono::milliseconds detect_timeout{1000};           // F32
  std::chrono::milliseconds unknown_destination_wait{1000};
  std::chrono::milliseconds tunnel_idle_timeout{60000};
  std::chrono::milliseconds tunnel_ping_interval{30000};
  std::uint32_t max_request_line_bytes = 65536;  // beyond: 414
  std::uint32_t max_header_bytes = 65536;        // all header fields of a message; beyond: 431
  std::uint32_t max_header_count = 256;          // beyond: 431
  std::uint32_t max_connections_per_workload = 65536;
  std::uint64_t buffer_budget_bytes = 256ULL << 20U;  // windows of all tunnels together
};

// Snapshot is everything that the data path knows of the mesh. Immutable once
// published; workers hold it by shared_ptr<const Snapshot>, a session keeps the one
// that it began with.
class Snapshot {
 public:
  struct Parts {
    std::uint64_t revision = 0;
    std::string trust_domain;
    std::string node_name;
    std::vector<base::Cidr> mesh_ranges;
    std::vector<std::shared_ptr<const Workload>> workloads;
    std::vector<std::shared_ptr<const LocalWorkload>> locals;
    Limits limits;
  };
  explicit Snapshot(Parts parts);

  [[nodiscard]] std::uint64_t revision() const { return parts_.revision; }
  [[nodiscard]] const std::string& trust_domain() const { return parts_.trust_domain; }
  [[nodiscard]] const std::string& node_name() const { return parts_.node_name; }
  [[nodiscard]] const Limits& limits() const { return parts_.limits; }
  [[nodiscard]] const std::vector<std::shared_ptr<const Workload>>& workloads() const {
    return parts_.workloads;
  }
  [[nodiscard]] const std::vector<std::shared_ptr<const LocalWorkload>>& locals() const {
    return parts_.locals;
  }

  // The workload that the registry says has `address` (and, where several share an
  // address on a VM, an inbound on `port`); null if none.
  [[nodiscard]] const Workload* FindByAddress(const base::Endpoint& endpoint) const;
  // The same for a source address, whose port says nothing: the only workload at that
  // address, or null when there is none or more than one.
  [[nodiscard]] const Workload* FindBySource(const base::IpAddress& address) const;
  // The workload at `address` that has `identity`, or null: workloads of one service
  // account share an identity, so an identity alone names nobody.
  [[nodiscard]] const Workload* FindPeer(const base::IpAddress& address,
                                         std::string_view identity) const;
  // Whether the registry has anybody at `address`.
  [[nodiscard]] bool KnowsAddress(const base::IpAddress& address) const {
    return by_address_.contains(address);
  }
  [[nodiscard]] const Workload* FindByIdentity(const SpiffeId& identity) const;
  [[nodiscard]] const LocalWorkload* FindLocal(LocalId id) const;
  // The local entry of a registry workload, or null if it is not enrolled here.
  [[nodiscard]] const LocalWorkload* FindLocal(const Workload& workload) const;
  // The owning pointer of an entry that one of the calls above gave (null for null), for
  // records that outlive the snapshot.
  [[nodiscard]] std::shared_ptr<const Workload> Shared(const Workload* workload) const;
  [[nodiscard]] std::shared_ptr<const LocalWorkload> Shared(const LocalWorkload* local) const;
  // Whether `address` lies inside the mesh's ranges (pods, services, VMs).
  [[nodiscard]] bool InMeshRange(const base::IpAddress& address) const;

 private:
  Parts parts_;
  std::unordered_multimap<base::IpAddress, const Workload*, base::IpHash> by_address_;
  std::map<std::string, const Workload*, std::less<>> by_identity_;
  std::unordered_map<std::uint32_t, const LocalWorkload*> by_local_id_;
  std::unordered_map<const Workload*, const LocalWorkload*> local_of_;
  std::unordered_map<const void*, std::size_t> index_of_;  // of both vectors' entries
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace weir::model
