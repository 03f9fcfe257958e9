#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/text.h"

namespace weir::test {

// One relay with everything around it: bytes in by side, what came out by side, and the
// requests that were reported.
class Http1RelayRig final : public proxy::ExchangeHandler {
 public:
  using Relay = proxy::Http1Relay;

  enum class Role : std::uint8_t { kPlain, kClient, kServer, kJoined };

  explicit Http1RelayRig(Role role = Role::kClient, http::Http1Limits limits = {},
                         double ratio = 1.0, std::size_t max_open = proxy::kMaxOpenRequests)
      : Http1RelayRig(role, limits, model::TraceSettings{.sample_ratio = ratio},
                      /*from_outside=*/false, max_open) {}

  // Both sides with `settings`; `from_outside` as in proxy::TracerOptions.
  Http1RelayRig(Role role, http::Http1Limits limits, const model::TraceSettings& settings,
                bool from_outside = false, std::size_t max_open = proxy::kMaxOpenRequests)
      : context_(clock_), settings_(settings) {
    context_.ids = http::IdGenerator(/*seed=*/1);
    const bool client = role == Role::kClient || role == Role::kJoined;
    const bool server = role == Role::kServer || role == Role::kJoined;
    relay_.emplace(context_,
                   proxy::Http1Options{.limits = limits,
                                       .h2_limits = {},
                                       .trace = {.client = client ? &settings_ : nullptr,
                                                 .server = server ? &settings_ : nullptr,
                                                 .from_outside = from_outside},
                                       .max_open_requests = max_open},
                   *this);
  }

  Relay::Result Downstream(std::string_view bytes) {
    return Note(relay_->OnDownstreamBytes(proxy::AsBytes(bytes), out()), to_upstream_);
  }
  Relay::Result Upstream(std::string_view bytes) {
    return Note(relay_->OnUpstreamBytes(proxy::AsBytes(bytes), out()), to_downstream_);
  }
  Relay::Result DownstreamEnd() { return Note(relay_->OnDownstreamEnd(out()), to_upstream_); }
  Relay::Result UpstreamEnd() { return Note(relay_->OnUpstreamEnd(out()), to_downstream_); }
  Relay::Result HeaderTimeout() { return Note(relay_->OnHeaderTimeout(out()), to_downstream_); }

  // All that went to a side so far.
  [[nodiscard]] std::string upstream() const {
    return std::string(proxy::AsText(to_upstream_.Readable()));
  }
  [[nodiscard]] std::string downstream() const {
    return std::string(proxy::AsText(to_downstream_.Readable()));
  }
  void Forget() {
    to_upstream_.Clear();
    to_downstream_.Clear();
  }

  [[nodiscard]] Relay& relay() { return *relay_; }
  [[nodiscard]] base::ManualClock& clock() { return clock_; }
  [[nodiscard]] const std::vector<observe::ExchangeResult>& exchanges() const { return exchanges_; }

  void OnExchange(observe::ExchangeResult&& exchange) noexcept override {
    exchanges_.push_back(std::move(exchange));
  }

 private:
  Relay::Output out() { return {.to_upstream = to_upstream_, .to_downstream = to_downstream_}; }
  static Relay::Result Note(Relay::Result result, io::ByteBuffer& direction) {
    direction.Append(result.direct);
    return result;
  }

  base::ManualClock clock_;
  proxy::Http1Context context_;
  model::TraceSettings settings_;
  io::ByteBuffer to_upstream_;
  io::ByteBuffer to_downstream_;
  std::vector<observe::ExchangeResult> exchanges_;
  std::optional<Relay> relay_;
};

}  // namespace weir::test
