#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/model/snapshot.h"
#include "agent/seam/interception.h"

// Which delivered request an application was serving when it sent another one: what the
// proxy tells the kernel side of the requests that it delivers, and what it is told of those
// that it reads. Ids are plain bytes, as on the wire. Calls never block.
namespace weir::seam {

struct SpanRef {
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
};

// What a child span needs of its parent.
struct ParentContext {
  // Of a tracestate; a longer one is not kept.
  static constexpr std::size_t kMaxStateBytes = 64;

  SpanRef span;
  std::uint8_t flags = 0;
  std::uint8_t state_bytes = 0;
  std::array<char, kMaxStateBytes> state{};

  [[nodiscard]] std::string_view trace_state() const { return {state.data(), state_bytes}; }
  void SetTraceState(std::string_view text) {
    state_bytes = static_cast<std::uint8_t>(text.size() <= kMaxStateBytes ? text.size() : 0);
    std::copy_n(text.begin(), state_bytes, state.begin());
  }
};

enum class HintSource : std::uint8_t {
  kNone,
  kRuntime,  // the request that the application's runtime says
  kTurn,     // the request that the thread was serving, by a rule that has proved itself
  kSole      // the only request that the process had open
};

struct ParentHint {
  static constexpr std::size_t kMaxCandidates = 4;

  HintSource source = HintSource::kNone;
  ParentContext parent;             // unless kNone
  std::size_t candidate_count = 0;  // with kNone: 2 to 4 open requests, one of them perhaps
  std::array<SpanRef, kMaxCandidates> candidates{};
};

// Causality joins the requests that an application sends to those it is serving. Workers;
// a handle belongs to the worker that acquired it.
class Causality {
 public:
  Causality() = default;
  Causality(const Causality&) = delete;
  Causality& operator=(const Causality&) = delete;
  virtual ~Causality() = default;

  // A handle for one delivery connection, to be put into its ConnectRequest; 0 when there
  // are no more of this worker's, or the kernel cannot infer: the connection's requests then
  // are nobody's parents. Every handle is released.
  virtual std::uint32_t AcquireHandle(std::uint32_t worker) = 0;
  virtual void ReleaseHandle(std::uint32_t worker, std::uint32_t handle) = 0;
  // Before a request is written to the connection: the span that its calls are children of.
  // The one before it must have been answered. Nothing for handle 0, here and below.
  virtual void BeginRequest(std::uint32_t handle, const ParentContext& context) = 0;
  // The connection carries no requests that follow each other (an unknown protocol, several
  // streams): while it is open, nothing is inferred for its process. For its life, or until
  // EndRequest.
  virtual void MarkMultiplexed(std::uint32_t handle) = 0;
  // Before anything is written to it: it is HTTP/2. What the application writes need not be
  // an answer, so that each request needs an EndRequest.
  virtual void MarkStreams(std::uint32_t handle) = 0;
  // Every request that was begun has been answered. `broken_off`: one has not, and the
  // application may not know yet that nobody waits for it.
  virtual void EndRequest(std::uint32_t handle, bool broken_off) = 0;

  // What is known of the request, or of the command of any protocol, that `source` has just
  // sent on the connection `accepted` (as the agent's socket sees it): at most once for each
  // time that the application turned from reading to writing.
  virtual std::optional<ParentHint> TakeHint(model::LocalId source,
                                             const base::ConnectionTuple& accepted) = 0;
};

}  // namespace weir::seam
