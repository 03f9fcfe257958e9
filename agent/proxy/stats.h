#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/clock.h"
#include "agent/database/tap.h"
#include "agent/http/flood_guard.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"
#include "agent/policy/decide.h"

namespace weir::proxy {

// Counter is written by one thread, its worker, and read by any: a relaxed store costs
// what a plain one does, where fetch_add would lock the bus.
class Counter {
 public:
  void Add(std::uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void Sub(std::uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - count, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// What all tunnels of a worker count; read from any thread.
struct TunnelCounters {
  Counter open_client;  // gauge: tunnels that this side opened, those being set up included
  Counter open_server;  // gauge: tunnels that it serves
  Counter connected;    // tunnels that this side opened, up to an admitted peer
  Counter accepted;     // and those that the peer opened
  Counter streams_opened;
  Counter streams_accepted;
  Counter streams_refused;  // either side's CONNECT answered other than 2xx
  Counter bytes_received;   // ciphertext
  Counter bytes_sent;
  std::array<Counter, observe::kReasonCount> closed;            // tunnels, by reason
  std::array<Counter, http::kTunnelViolationCount> violations;  // by the peer
};

// How long the turns of a worker's event loop took.
struct TurnHistogram {
  static constexpr std::array<double, 6> kBounds = {0.001, 0.005, 0.02, 0.05, 0.1, 0.5};  // s
  std::array<Counter, kBounds.size() + 1> buckets;  // each by itself; the last has no bound
  Counter nanoseconds;                              // of all turns together

  void Add(base::Nanoseconds turn);
};

// What a decision of the policy was about.
enum class DecisionScope : std::uint8_t { kConnection, kRequest };
inline constexpr std::size_t kDecisionScopeCount = 2;

// WorkerStats are the figures of one worker. Written by the worker, read by any thread;
// a reader sees each figure whole, but not all of one instant.
struct WorkerStats {
  Counter accepted_outbound;  // connections taken from outbound listeners
  Counter accepted_inbound;
  Counter open_sessions;  // gauge: application connections and streams being served
  TunnelCounters tunnels;
  Counter bytes_sent;        // towards upstreams
  Counter bytes_received;    // from upstreams
  Counter requests;          // requests of HTTP and commands of databases that ended
  Counter connections;       // connections that ended, well or not
  Counter probes;            // self-probes answered
  Counter accept_pauses;     // times that accepting paused for want of descriptors
  Counter detect_timeouts;   // protocol detections that ran out of time
  Counter witnesses;         // witness connections made for same-node joins
  Counter delivery_retries;  // delivery legs tried again from another port
  // Delivery legs whose requests are nobody's inferred parents.
  Counter deliveries_untracked;
  Counter snapshots;  // snapshots installed
  TurnHistogram turns;
  // HTTP/2 connections of applications closed because an end broke the protocol.
  std::array<Counter, http::kH2ViolationCount> h2_violations;
  // Database connections that are not followed to their ends, by why; and commands without a
  // record, as too many were unanswered.
  std::array<Counter, database::kTapEndCount> database_ends;
  Counter database_untraced;
  // Refused or broken connections and requests, by why; kNone counts those that went well.
  std::array<Counter, observe::kReasonCount> reasons;

  // Decisions at the destination's side, by scope and outcome.
  std::array<std::array<Counter, policy::kOutcomeCount>, kDecisionScopeCount> decisions;

  void Count(DecisionScope scope, policy::Outcome outcome) {
    decisions[static_cast<std::size_t>(scope)][static_cast<std::size_t>(outcome)].Add();
  }
  void Count(observe::Reason reason) { reasons[static_cast<std::size_t>(reason)].Add(); }
};

// CollectMetrics sums the figures of all workers into what /metrics shows; there is one at least.
// Any thread.
std::vector<observe::MetricFamily> CollectMetrics(std::span<const WorkerStats* const> workers);

}  // namespace weir::proxy
