#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/model/snapshot.h"

// What stands between the proxy and the kernel side. The proxy sees only this, so it
// is tested without a BPF program, and the kernel side can live in a process of its
// own that hands sockets over. Calls marked "worker" never block.
namespace weir::seam {

enum class ListenerKind : std::uint8_t {
  kOutbound,  // connect() hooks lead applications here
  kInbound    // sk_lookup leads connections from outside here; getsockname is the original
};

// Listener is one listening socket of one worker, inside a workload's namespace (or,
// for units of a VM, in the host's). `owner` is the workload that connections belong
// to, or kNone where several share it and the record says which.
struct Listener {
  base::UniqueFd fd;
  ListenerKind kind = ListenerKind::kOutbound;
  model::LocalId owner = model::LocalId::kNone;
  base::Endpoint bound;  // its own address: a connection to it itself is refused
};

// Where an intercepted outbound connection wanted to go.
struct OriginalDestination {
  base::Endpoint destination;
  model::LocalId source = model::LocalId::kNone;
  std::uint32_t pid = 0;  // thread group of the connecting process, 0 unknown
  char comm[16] = {};     // its name, NUL-terminated
};

// A connection whose original destination is this (the IPv4 dummy address, RFC 7600) is
// a self-probe: the worker answers kProbeAnswer and closes. Proves hooks and worker alive.
inline const base::Endpoint kProbeDestination{.address = base::IpAddress::V4(0x080000c0U),
                                              .port = 1};
inline constexpr char kProbeAnswer[] = "weir\n";

// Why the agent opened a connection; the kernel side lets each through its own hooks.
enum class LegKind : std::uint8_t {
  kTunnel = 1,    // to a peer's agent
  kDelivery = 2,  // to the application, inside its namespace
  kPassthrough = 3,
  kWitness = 4,  // proves that the way to a same-node destination is open
};

// An agent's own connection as the receiving hook finds it recorded.
struct OwnLeg {
  LegKind kind = LegKind::kTunnel;
  std::uint32_t worker = 0;  // index of the worker that opened it
};

struct ConnectRequest {
  model::LocalId from = model::LocalId::kNone;  // whose namespace the socket is made in
  base::Endpoint destination;
  // Keep this source address (delivery): IP_TRANSPARENT, own port outside the local range.
  std::optional<base::IpAddress> transparent_source;
  LegKind kind = LegKind::kPassthrough;
  std::uint32_t worker = 0;
  std::uint32_t request_handle = 0;  // of a delivery (seam/causality.h); 0: none
};

// SocketFactory makes sockets inside workloads' namespaces. Worker; thread-safe.
class SocketFactory {
 public:
  SocketFactory() = default;
  SocketFactory(const SocketFactory&) = delete;
  SocketFactory& operator=(const SocketFactory&) = delete;
  virtual ~SocketFactory() = default;

  // Makes a non-blocking, close-on-exec TCP socket marked as the agent's own and
  // starts connecting it: the result may still be in progress (EINPROGRESS is not an
  // error). Fails with kNotFound when the workload is gone, kUnavailable when the
  // kernel refuses at once.
  virtual base::Result<base::UniqueFd> Connect(const ConnectRequest& request) = 0;
};

// Redirections answers what the hooks recorded. Worker; thread-safe.
class Redirections {
 public:
  Redirections() = default;
  Redirections(const Redirections&) = delete;
  Redirections& operator=(const Redirections&) = delete;
  virtual ~Redirections() = default;

  // Takes (and forgets) the record of a connection accepted by an outbound listener;
  // `accepted` as the agent's socket sees it. Empty: no record, so nobody's: reset it.
  virtual std::optional<OriginalDestination> TakeOriginalDestination(
      const Listener& listener, const base::ConnectionTuple& accepted) = 0;

  // The workload that an inbound connection accepted on a shared (VM) listener is for.
  virtual model::LocalId InboundOwner(const Listener& listener, const base::Endpoint& local) = 0;

  // The agent's own connection from workload `source`'s namespace whose tuple, seen by
  // the receiver, is `accepted`; empty if it is not the agent's.
  virtual std::optional<OwnLeg> FindOwnLeg(model::LocalId source,
                                           const base::ConnectionTuple& accepted) = 0;
};

}  // namespace weir::seam
