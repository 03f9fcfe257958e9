#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "agent/base/ip.h"
#include "agent/proxy/tunnel.h"
#include "agent/seam/interception.h"

namespace weir::proxy {

// Which tunnels a stream may use: those of one source workload to one destination. A tunnel
// carries its source's identity, so it is never shared with another one.
struct TunnelKey {
  model::LocalId source = model::LocalId::kNone;
  base::Endpoint destination;  // the endpoint's address and port, not the Service's
  model::TunnelPort port = model::TunnelPort::kOriginal;
  friend auto operator<=>(const TunnelKey&, const TunnelKey&) = default;
};

// TunnelEnvironment is what the pool must know of the mesh; the worker answers from its
// current snapshot.
class TunnelEnvironment {
 public:
  TunnelEnvironment() = default;
  TunnelEnvironment(const TunnelEnvironment&) = delete;
  TunnelEnvironment& operator=(const TunnelEnvironment&) = delete;
  // The TLS contexts of `source`'s current SVID; null if it has none.
  virtual std::shared_ptr<const tls::WorkloadTls> TlsOf(model::LocalId source) noexcept = 0;
  // kNone if `peer` is who must live at key.destination; asked when a tunnel is up and
  // again for each stream put on a standing tunnel.
  virtual observe::Reason CheckPeer(const TunnelKey& key, const tls::PeerInfo& peer) noexcept = 0;

 protected:
  ~TunnelEnvironment() = default;
};

// TunnelPool keeps the tunnels that one worker opened: a few per key, reused, another one
// when a tunnel is at the peer's stream limit or bound by its window, closed when idle.
class TunnelPool final : private TunnelOwner {
 public:
  static constexpr std::size_t kMaxTunnelsPerKey = 4;

  TunnelPool(TunnelContext& context, seam::SocketFactory& sockets, TunnelEnvironment& environment,
             std::uint32_t worker_index);
  TunnelPool(const TunnelPool&) = delete;
  TunnelPool& operator=(const TunnelPool&) = delete;
  ~TunnelPool();

  // Opens a stream to `key`; never fails at once: the handler is told later, also that no
  // socket or SVID could be had (OnRefused, at the end of the turn).
  std::unique_ptr<TunnelStream> Open(const TunnelKey& key, TunnelStream::Request request,
                                     TunnelStreamHandler& handler);

  // The workload is gone: its tunnels are closed at once, streams told kNamespaceGone.
  void CloseSource(model::LocalId source);
  // Every tunnel drains; new streams get tunnels of their own until the worker stops.
  void Drain();
  // Tunnels, connecting ones included.
  [[nodiscard]] std::size_t size() const;

 private:
  friend class TunnelStream;
  using Tunnels = std::vector<std::unique_ptr<TunnelConnection>>;
  struct Refusal {
    TunnelStream* stream;  // null: has gone
    observe::Reason reason;
    std::string detail;
  };

  observe::Reason OnTunnelUp(TunnelConnection& connection) noexcept override;
  void OnTunnelStream(TunnelConnection& connection, std::unique_ptr<TunnelStream> stream,
                      const http::TunnelRequest& request) noexcept override;
  bool OnStreamUnserved(TunnelConnection& connection, TunnelStream& stream) noexcept override;
  void OnTunnelClosed(TunnelConnection& connection, observe::Reason reason,
                      std::string_view detail) noexcept override;

  // Puts the stream on a tunnel, or refuses it at the end of the turn.
  void Place(const TunnelKey& key, TunnelStream& stream);
  // The tunnel to use, null if a new one is due.
  TunnelConnection* Choose(const TunnelKey& key);
  // Drains tunnels that may not be used any more: renewed SVID, other peer, ids used up.
  void Retire(const TunnelKey& key, const tls::WorkloadTls& current);
  void RefuseLater(TunnelStream& stream, observe::Reason reason, std::string detail);
  void Withdraw(TunnelStream& stream);
  // At the end of the turn: tells refused streams, destroys closed tunnels.
  void ScheduleCollect();
  void Collect();
  template <typename Predicate>
  [[nodiscard]] std::vector<TunnelConnection*> Select(Predicate wanted) const;

  TunnelContext& context_;
  seam::SocketFactory& sockets_;
  TunnelEnvironment& environment_;
  std::uint32_t worker_index_;
  std::map<TunnelKey, Tunnels> tunnels_;
  std::map<const TunnelConnection*, TunnelKey> keys_;
  std::vector<std::unique_ptr<TunnelConnection>> closed_;  // until the end of the turn
  std::vector<Refusal> refusals_;
  std::shared_ptr<TunnelPool*> self_;  // null inside once destroyed; for deferred work
  bool collect_scheduled_ = false;
};

}  // namespace weir::proxy
