#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/fuzz/property.h"
#include "tests/support/tunnel_rig.h"

namespace weir::test {

// Feeds a peer's bytes, in pieces whose size the first byte says, to a multiplexer that is
// past its preface and whose streams echo what they get. Holds: nothing is handed on that
// did not come in, the output is bounded by the input, and a failed connection stays quiet.
inline void FuzzTunnel(http::TunnelRole role, const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > (1U << 16U)) {
    return;
  }
  base::ManualClock clock;
  TunnelEnd end({.role = role}, clock);
  Wire opening;
  if (role == http::TunnelRole::kServer) {
    opening.Preface();
  }
  opening.Settings();
  end.Receive(opening);
  if (role == http::TunnelRole::kClient) {
    for (int i = 0; i < 3; ++i) {
      end.Open().Send("request");
    }
  }
  const std::size_t piece = std::size_t{data[0]} + 1;
  Bytes bytes(data + 1, size - 1);
  std::uint64_t sent = 0;
  while (!bytes.empty()) {
    const Bytes part = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(part.size());
    end.Receive(part);
    sent += end.output.Take().size();
    end.mux.OnOutputDrained(clock.Now());
    clock.Advance(std::chrono::milliseconds(1));
  }
  std::uint64_t received = 0;
  for (const auto& stream : end.streams) {
    received += stream->received_bytes;
  }
  // A frame of 9 bytes causes at most an answer of some tens of bytes.
  WEIR_PROPERTY(received <= size);
  WEIR_PROPERTY(sent <= 4096 + 64 * size);
  if (end.mux.closed()) {
    const std::uint8_t more = 0;
    end.Receive(Bytes(&more, 1));
    WEIR_PROPERTY(end.errors <= 1);
  }
}

}  // namespace weir::test
