#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/opaque_memory.h"
#include "agent/proxy/session.h"
#include "agent/proxy/stats.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/tunnel_pool.h"
#include "agent/proxy/worker.h"
#include "agent/tls/workload_tls.h"

namespace weir::proxy {

class MeshView;
class WitnessCache;

// WorkerContext is what the sessions of one worker share. All of it belongs to the worker's
// thread and outlives its sessions.
struct WorkerContext {
  WorkerContext(const WorkerOptions& used_options, io::EventLoop& used_loop,
                WorkerStats& used_stats);
  WorkerContext(const WorkerContext&) = delete;
  WorkerContext& operator=(const WorkerContext&) = delete;
  ~WorkerContext();

  // The credential of a workload, or null if it has none that is valid now.
  [[nodiscard]] std::shared_ptr<const tls::WorkloadTls> CredentialOf(model::LocalId id) const;
  // Hands a finished record on, with all others of this turn.
  void Finish(observe::Record record);
  [[nodiscard]] base::Nanoseconds DetectTimeout(model::ProtocolHint hint) const;
  // Whether workload `id` has more sessions here than this worker's share of its limit.
  [[nodiscard]] bool OverLimit(model::LocalId id) const;
  // Who speaks from `address` with a certificate of `peer`, by `snapshot`.
  struct PeerAnswer {
    const model::Workload* workload = nullptr;
    observe::Reason reason = observe::Reason::kNone;  // why there is none
  };
  [[nodiscard]] PeerAnswer IdentifyPeer(const model::Snapshot& of, const base::IpAddress& address,
                                        const tls::PeerInfo& peer) const;

  // Whether `peer` is `expected`, and where that lives: kNone, or what is wrong.
  [[nodiscard]] static observe::Reason CheckServer(const model::Workload& expected,
                                                   const tls::PeerInfo& peer);

  WorkerOptions options;
  io::EventLoop& loop;
  WorkerStats& stats;
  std::vector<std::uint8_t> scratch;  // every read goes through it
  io::ByteBuffer to_upstream;         // output of an HTTP relay, for one call
  io::ByteBuffer to_downstream;
  Http1Context http;
  OpaqueMemory opaque;
  model::SnapshotPtr snapshot;  // never null
  std::unordered_map<model::LocalId, std::shared_ptr<const tls::WorkloadTls>> credentials;
  std::vector<observe::Record> records;  // of this turn
  http::WindowBudget window_budget;
  TunnelContext tunnel_context;
  std::unique_ptr<MeshView> mesh_view;
  std::unique_ptr<TunnelPool> tunnels;
  std::unique_ptr<WitnessCache> witnesses;
  SessionTable sessions;  // last: sessions use all of the above when they go
  bool draining = false;
};

}  // namespace weir::proxy
