#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "agent/http/tunnel_mux.h"
#include "tests/fuzz/property.h"
#include "tests/support/tunnel_rig.h"

// What the fuzz targets of the tunnel share: an end that answers, echoes and ends streams
// by itself, and what a peer's bytes did to it.
namespace weir::test {

struct TunnelOutcome {
  std::map<http::TunnelStreamId, std::string> received;
  std::map<http::TunnelStreamId, int> ends;  // and resets, as 100 each
  http::H2Error error = http::H2Error::kNoError;
  http::TunnelViolation violation = http::TunnelViolation::kNone;
  bool flow_error = false;  // of the connection or a stream: depends on when credit went back
  friend bool operator==(const TunnelOutcome&, const TunnelOutcome&) = default;
};

// One run of `bytes` through a fresh end of `role`; in pieces if `seed` is not 0.
inline TunnelOutcome RunTunnel(http::TunnelRole role, std::string_view bytes, std::uint8_t seed) {
  base::ManualClock clock;
  http::TunnelMuxConfig config;
  config.role = role;
  config.max_peer_streams = 50;
  TunnelEnd end(config, clock);
  end.output.limit = std::size_t{1} << 30U;
  const auto equip = [](TestStream& stream) {
    stream.on_data = [&stream] { stream.Send(std::string_view(stream.received).substr(0, 16)); };
    stream.on_end = [&stream] { stream.end.mux.EndStream(stream.id); };
  };
  end.on_opened = [&](TestStream& stream) {
    equip(stream);
    if (stream.id % 16 == 7) {
      end.mux.Refuse(stream.id, 503);
    } else {
      end.mux.Accept(stream.id);
    }
  };
  if (role == http::TunnelRole::kClient) {
    for (int i = 0; i < 4; ++i) {
      TestStream& stream = end.Open();
      equip(stream);
      stream.Send("hello");
    }
  }
  std::size_t sent_bytes = 0;
  const auto feed = [&](std::string_view part) {
    end.Receive(AsBytes(part));
    sent_bytes += end.output.Take().size();
    end.mux.OnOutputDrained(clock.Now());
    WEIR_PROPERTY(end.mux.memory_bytes() < (1U << 20U));
    WEIR_PROPERTY(end.budget.used_bytes() <= (16U << 20U));
  };
  if (seed == 0) {
    feed(bytes);
  } else {
    FeedInPieces(bytes, seed, feed);
  }
  std::uint64_t received_bytes = 0;
  for (const auto& stream : end.streams) {
    received_bytes += stream->received_bytes;
  }
  WEIR_PROPERTY(received_bytes <= bytes.size());
  // Nothing that a peer sends makes us send much more.
  WEIR_PROPERTY(sent_bytes <= 64 * bytes.size() + 65536);
  TunnelOutcome outcome{.received = {},
                        .ends = {},
                        .error = end.error,
                        .violation = end.violation,
                        .flow_error = end.error == http::H2Error::kFlowControlError};
  for (const auto& stream : end.streams) {
    WEIR_PROPERTY(stream->ends + stream->resets <= 2 && stream->resets <= 1);
    outcome.received[stream->id] = stream->received;
    outcome.ends[stream->id] = stream->ends + 100 * stream->resets;
    outcome.flow_error =
        outcome.flow_error || stream->reset.code == http::H2Error::kFlowControlError;
  }
  if (end.mux.closed()) {
    feed("more");
  }
  WEIR_PROPERTY(end.errors <= 1);
  WEIR_PROPERTY(!end.mux.closed() || end.mux.stream_count() == 0);
  return outcome;
}

// Where the bytes are split must not matter to anybody.
inline void CheckTunnel(http::TunnelRole role, std::string_view input) {
  if (input.empty()) {
    return;
  }
  const auto seed = static_cast<std::uint8_t>(input[0] | 1);
  const std::string_view bytes = input.substr(1);
  const TunnelOutcome whole = RunTunnel(role, bytes, 0);
  const TunnelOutcome pieces = RunTunnel(role, bytes, seed);
  WEIR_PROPERTY(whole.flow_error || pieces.flow_error || whole == pieces);
}

}  // namespace weir::test
