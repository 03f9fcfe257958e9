#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/proxy/http2_relay.h"
#include "agent/proxy/text.h"
#include "tests/support/h2_relay_rig.h"

namespace weir::test {

// One Http2Relay with everything around it.
class Http2RelayRig final : public proxy::ExchangeHandler {
 public:
  using Relay = proxy::Http2Relay;
  enum class Role : std::uint8_t { kPlain, kClient, kServer, kJoined };

  explicit Http2RelayRig(Role role = Role::kClient, const http::H2RelayLimits& limits = {})
      : context(clock) {
    context.ids = http::IdGenerator(/*seed=*/1);
    const bool client = role == Role::kClient || role == Role::kJoined;
    const bool server = role == Role::kServer || role == Role::kJoined;
    relay.emplace(context,
                  proxy::Http2Options{.limits = limits,
                                      .trace = {.client = client ? &settings_ : nullptr,
                                                .server = server ? &settings_ : nullptr}},
                  *this);
  }

  Relay::Result Client(const Wire& wire) {
    return Note(relay->OnDownstreamBytes(wire.bytes(), out()), to_server);
  }
  Relay::Result Server(const Wire& wire) {
    return Note(relay->OnUpstreamBytes(wire.bytes(), out()), to_client);
  }
  void Begin() {
    Client(Wire().Preface().Settings({{http::H2Setting::kEnablePush, 0}}));
    Server(Wire().Settings({{http::H2Setting::kMaxConcurrentStreams, 100}}).SettingsAck());
    Client(Wire().SettingsAck());
  }
  // After a call of the relay with out(): what it wrote goes to the logs.
  Relay::Output out() { return {.to_upstream = upstream_, .to_downstream = downstream_}; }
  void Take() {
    to_server.Append(upstream_.Readable());
    to_client.Append(downstream_.Readable());
    upstream_.Clear();
    downstream_.Clear();
  }

  void OnExchange(observe::ExchangeResult&& exchange) noexcept override {
    exchanges.push_back(std::move(exchange));
  }

  base::ManualClock clock;
  proxy::Http1Context context;
  FrameLog to_server;
  FrameLog to_client;
  std::vector<observe::ExchangeResult> exchanges;
  std::optional<Relay> relay;

 private:
  Relay::Result Note(const Relay::Result& result, FrameLog& log) {
    Take();
    log.Append(result.direct);
    return result;
  }
  model::TraceSettings settings_;
  io::ByteBuffer upstream_;
  io::ByteBuffer downstream_;
};

}  // namespace weir::test
