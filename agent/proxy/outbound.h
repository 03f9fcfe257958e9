#pragma once

#include "agent/base/unique_fd.h"
#include "agent/proxy/stream_session.h"
#include "agent/seam/interception.h"

namespace weir::proxy {

// OutboundSession is a connection that a local workload's application opened, from the
// connect() hook on. It finds out whom the registry says is there, and goes by
//   the application itself  a registry workload of this node (join, with a witness)
//   a tunnel                a registry workload elsewhere
//   a plain connection      outside of the mesh
// or is refused. Only the registry decides: no failure ever leads to plain text.
class OutboundSession final : public StreamSession {
 public:
  OutboundSession(WorkerContext& context, const seam::OriginalDestination& original,
                  const base::ConnectionTuple& accepted, base::UniqueFd fd);
  // Resolves and goes on; after the table gave the session its id.
  void Start();
  void OnWitness(bool alive) noexcept override;

 private:
  enum class Way : std::uint8_t { kUnknown, kJoin, kTunnel, kPassthrough };

  void Resolve();
  void StartJoin(const model::LocalWorkload& destination);
  void StartTunnel(const model::Workload& destination);
  void StartPassthrough();
  void NoteTunnelWait();
  [[nodiscard]] base::IpAddress SourceAddress() const;
  bool OnAwaitedSnapshot() noexcept override;
  [[nodiscard]] observe::Reason Contradiction(const model::Snapshot& now) const override;
  [[nodiscard]] observe::Reason JoinContradiction(const model::Snapshot& now,
                                                  const model::Workload& there) const;
  void OnAdmitted() noexcept override;  // of a join: nothing else asks here
  void OnUpstreamOpen() noexcept override;
  void OnUpstreamFailed(observe::Reason reason) noexcept override;
  void OnUpstreamTimer() noexcept override;

  Way way_ = Way::kUnknown;
  bool waits_for_registry_ = false;
  bool retried_ = false;
};

}  // namespace weir::proxy
