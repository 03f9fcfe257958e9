// A server's engine fed a peer's bytes: first as the first bytes of a connection, then as
// the continuation of an established one. Nothing that is not sealed by the peer may come
// out as plaintext, and how the bytes are cut must not matter.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/base/check.h"
#include "agent/tls/engine.h"
#include "tests/support/test_pki.h"

namespace {

using weir::io::ByteBuffer;
using weir::io::Bytes;
using weir::tls::Engine;
using weir::tls::EngineState;

// Keys and certificates are made once: they are not what is tested.
struct Peers {
  weir::base::ManualClock clock;
  weir::test::TestPki pki{"one.test", clock};
  std::shared_ptr<const weir::tls::WorkloadTls> alice = pki.Workload("/ns/a/sa/alice", "node-a");
  std::shared_ptr<const weir::tls::WorkloadTls> bob = pki.Workload("/ns/b/sa/bob", "node-b");
};

const Peers& ThePeers() {
  static const Peers peers;
  return peers;
}

std::unique_ptr<Engine> OpenServer() {
  auto client = Engine::Client(ThePeers().alice, weir::tls::kAlpnWeir);
  auto server = Engine::Server(ThePeers().bob);
  ByteBuffer to_server;
  ByteBuffer to_client;
  ByteBuffer plaintext;
  client->Start(to_server);
  server->Receive(to_server.Readable(), plaintext, to_client);
  to_server.Clear();
  client->Receive(to_client.Readable(), plaintext, to_server);
  server->Receive(to_server.Readable(), plaintext, to_client);
  WEIR_CHECK(server->state() == EngineState::kOpen);
  return server;
}

// Feeds `bytes` in pieces of `step` and gives the state at the end.
EngineState Feed(Engine& engine, Bytes bytes, std::size_t step) {
  ByteBuffer plaintext;
  ByteBuffer ciphertext;
  while (!bytes.empty()) {
    const Bytes piece = bytes.first(std::min(step, bytes.size()));
    engine.Receive(piece, plaintext, ciphertext);
    bytes = bytes.subspan(piece.size());
  }
  WEIR_CHECK(plaintext.empty());
  return engine.state();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::size_t step = std::size_t{data[0]} + 1;
  const bool established = (data[1] & 1U) != 0;
  const Bytes bytes = Bytes(data, size).subspan(2);
  const auto whole = established ? OpenServer() : Engine::Server(ThePeers().bob);
  const auto cut = established ? OpenServer() : Engine::Server(ThePeers().bob);
  const EngineState state = Feed(*whole, bytes, static_cast<std::size_t>(-1));
  WEIR_CHECK(Feed(*cut, bytes, step) == state);
  WEIR_CHECK(whole->failure() == cut->failure());
  WEIR_CHECK(established || state != EngineState::kOpen);
  return 0;
}
