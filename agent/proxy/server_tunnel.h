#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/io/byte_buffer.h"
#include "agent/proxy/context.h"
#include "agent/proxy/session.h"
#include "agent/proxy/stream_session.h"
#include "agent/proxy/tunnel.h"

namespace weir::proxy {

class TunnelLeg;

// Where tunnels come in for peers whose registry entry asks for it (Istio's HBONE).
inline constexpr std::uint16_t kHbonePort = 15008;

// ServerTunnel is a tunnel that a peer's agent opened to a local workload, and the table's
// hold on it. Each of its streams becomes a ServedSession of its own.
class ServerTunnel final : public Session, private TunnelOwner {
 public:
  // `tuple`: local is the original destination, remote the peer's workload.
  ServerTunnel(WorkerContext& context, const base::ConnectionTuple& tuple,
               std::shared_ptr<const model::LocalWorkload> destination);
  ~ServerTunnel() override;
  // Goes on with the handshake on `fd`, of which `received` was read already.
  void Start(base::UniqueFd fd, std::shared_ptr<const tls::WorkloadTls> credential,
             io::Bytes received);
  void Abort(observe::Reason reason) noexcept override;
  void OnDrain() noexcept override;
  void OnDrainEnd() noexcept override {}  // ends with its last stream

 private:
  observe::Reason OnTunnelUp(TunnelConnection& connection) noexcept override;
  void OnTunnelStream(TunnelConnection& connection, std::unique_ptr<TunnelStream> stream,
                      const http::TunnelRequest& request) noexcept override;
  void OnTunnelClosed(TunnelConnection& connection, observe::Reason reason,
                      std::string_view detail) noexcept override;

  WorkerContext& context_;
  base::ConnectionTuple tuple_;
  std::shared_ptr<const model::LocalWorkload> destination_;
  std::unique_ptr<TunnelConnection> connection_;
  base::MonotonicTime start_;
  bool up_ = false;
};

// ServedSession is one stream of a tunnel on its way to the local application: the peer is
// checked against the registry and the policy, the application connected, and only then the
// CONNECT answered.
class ServedSession final : public StreamSession {
 public:
  ServedSession(WorkerContext& context, const base::ConnectionTuple& tunnel,
                std::shared_ptr<const model::LocalWorkload> destination,
                std::unique_ptr<TunnelStream> stream);
  // `authority` is what the CONNECT asks for.
  void Start(std::string_view authority);

 private:
  bool OnAwaitedSnapshot() noexcept override;
  [[nodiscard]] observe::Reason Contradiction(const model::Snapshot& now) const override;
  [[nodiscard]] bool Admits(std::string_view authority);
  void Identify();
  void OnAdmitted() noexcept override;
  void OnUpstreamOpen() noexcept override;
  void OnUpstreamTimer() noexcept override;
  void RejectDownstream(observe::Reason reason) override;
  [[nodiscard]] TunnelLeg& leg();
  [[nodiscard]] const TunnelLeg& leg() const;

  bool waits_for_registry_ = false;
  bool answered_ = false;
};

}  // namespace weir::proxy
