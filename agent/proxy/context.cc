#include "agent/proxy/context.h"

#include <chrono>
#include <utility>

#include "agent/proxy/socket_leg.h"
#include "agent/proxy/witness.h"

namespace weir::proxy {

using observe::Reason;

// The pool's view of the mesh: always the worker's current snapshot.
class MeshView final : public TunnelEnvironment {
 public:
  explicit MeshView(const WorkerContext& context) : context_(context) {}

  std::shared_ptr<const tls::WorkloadTls> TlsOf(model::LocalId source) noexcept override {
    return context_.CredentialOf(source);
  }
  Reason CheckPeer(const TunnelKey& key, const tls::PeerInfo& peer) noexcept override {
    const model::Workload* expected = context_.snapshot->FindByAddress(key.destination);
    return expected == nullptr ? Reason::kPeerIdentityMismatch
                               : WorkerContext::CheckServer(*expected, peer);
  }

 private:
  const WorkerContext& context_;
};

WorkerContext::WorkerContext(const WorkerOptions& used_options, io::EventLoop& used_loop,
                             WorkerStats& used_stats)
    : options(used_options),
      loop(used_loop),
      stats(used_stats),
      scratch(kScratchBytes),
      http(used_options.clock),
      snapshot(std::make_shared<const model::Snapshot>(model::Snapshot::Parts{})),
      window_budget(snapshot->limits().buffer_budget_bytes / used_options.worker_count),
      tunnel_context{.loop = loop,
                     .budget = window_budget,
                     .counters = stats.tunnels,
                     .limits = TunnelLimits::From(snapshot->limits())},
      mesh_view(std::make_unique<MeshView>(*this)),
      tunnels(std::make_unique<TunnelPool>(tunnel_context, used_options.sockets, *mesh_view,
                                           used_options.index)),
      sessions(used_loop, used_options.index) {
  witnesses = std::make_unique<WitnessCache>(options, loop, stats, sessions);
}

WorkerContext::~WorkerContext() = default;

std::shared_ptr<const tls::WorkloadTls> WorkerContext::CredentialOf(model::LocalId id) const {
  const auto found = credentials.find(id);
  if (found == credentials.end()) {
    return nullptr;
  }
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(options.clock.WallNow().time_since_epoch());
  return found->second->not_after() > now.count() ? found->second : nullptr;
}

void WorkerContext::Finish(observe::Record record) {
  if (records.empty()) {
    loop.AtEndOfTurn([this] { options.records.Offer(std::exchange(records, {})); });
  }
  records.push_back(std::move(record));
}

base::Nanoseconds WorkerContext::DetectTimeout(model::ProtocolHint hint) const {
  const model::Limits& limits = snapshot->limits();
  return hint == model::ProtocolHint::kNone ? limits.detect_timeout : limits.detect_timeout_hinted;
}

bool WorkerContext::OverLimit(model::LocalId id) const {
  const std::uint32_t limit = snapshot->limits().max_connections_per_workload;
  const std::uint32_t share = (limit + options.worker_count - 1) / options.worker_count;
  return sessions.CountOf(id) > share;
}

Reason WorkerContext::CheckServer(const model::Workload& expected, const tls::PeerInfo& peer) {
  if (expected.identity.uri() != peer.spiffe_id) {
    return Reason::kPeerIdentityMismatch;
  }
  return expected.node == peer.node ? Reason::kNone : Reason::kPeerNodeMismatch;
}

WorkerContext::PeerAnswer WorkerContext::IdentifyPeer(const model::Snapshot& of,
                                                      const base::IpAddress& address,
                                                      const tls::PeerInfo& peer) const {
  const model::Workload* workload = of.FindPeer(address, peer.spiffe_id);
  if (workload == nullptr) {
    return {.reason = Reason::kPeerIdentityMismatch};
  }
  if (workload->node != peer.node) {
    return {.reason = Reason::kPeerNodeMismatch};
  }
  return {.workload = workload};
}

}  // namespace weir::proxy
