#include "agent/tls/engine.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/tls/client_hello.h"
#include "tests/support/test_pki.h"

namespace weir::tls {
namespace {

using test::TestPki;

std::string TextOf(const io::ByteBuffer& buffer) {
  const io::Bytes bytes = buffer.Readable();
  return {bytes.begin(), bytes.end()};
}
io::Bytes BytesOf(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// A run of bytes that repeats with a prime period, so that a lost or doubled record shows.
std::string Pattern(std::size_t size) {
  std::string pattern(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    pattern[i] = static_cast<char>(i % 251);
  }
  return pattern;
}

// One end: its engine, what it has to send and what it received.
struct End {
  std::unique_ptr<Engine> engine;
  io::ByteBuffer out;
  io::ByteBuffer in;
};

// Hands everything that `from` has to send to `to`, in pieces of `step` bytes.
void Deliver(End& from, End& to, std::size_t step = static_cast<std::size_t>(-1)) {
  while (!from.out.empty()) {
    const io::Bytes piece = from.out.Readable().first(std::min(step, from.out.size()));
    to.engine->Receive(piece, to.in, to.out);
    from.out.Consume(piece.size());
  }
}

class EngineTest : public testing::Test {
 protected:
  void Shake(std::size_t step = static_cast<std::size_t>(-1)) {
    client_.engine->Start(client_.out);
    while (!client_.out.empty() || !server_.out.empty()) {
      Deliver(client_, server_, step);
      Deliver(server_, client_, step);
    }
  }
  void Open(std::uint64_t records_per_key = kRecordsPerKey) {
    client_.engine = Engine::Client(alice_, kAlpnWeir, records_per_key);
    server_.engine = Engine::Server(bob_, records_per_key);
    Shake();
    ASSERT_EQ(client_.engine->state(), EngineState::kOpen);
    ASSERT_EQ(server_.engine->state(), EngineState::kOpen);
  }

  base::ManualClock clock_;
  TestPki pki_{"one.test", clock_};
  std::shared_ptr<const WorkloadTls> alice_ = pki_.Workload("/ns/a/sa/alice", "node-a");
  std::shared_ptr<const WorkloadTls> bob_ = pki_.Workload("/ns/b/sa/bob", "node-b");
  End client_{.engine = Engine::Client(alice_, kAlpnWeir), .out = {}, .in = {}};
  End server_{.engine = Engine::Server(bob_), .out = {}, .in = {}};
};

TEST_F(EngineTest, ShakesHandsAndProvesBothSides) {
  Shake();
  ASSERT_EQ(client_.engine->state(), EngineState::kOpen) << client_.engine->failure_text();
  ASSERT_EQ(server_.engine->state(), EngineState::kOpen) << server_.engine->failure_text();
  EXPECT_EQ(client_.engine->peer().spiffe_id, "spiffe://one.test/ns/b/sa/bob");
  EXPECT_EQ(client_.engine->peer().node, "node-b");
  EXPECT_EQ(server_.engine->peer().spiffe_id, "spiffe://one.test/ns/a/sa/alice");
  EXPECT_EQ(server_.engine->peer().node, "node-a");
  EXPECT_EQ(client_.engine->alpn(), "weir/1");
  EXPECT_EQ(server_.engine->alpn(), "weir/1");
  EXPECT_EQ(client_.engine->version(), 0x0304);
  EXPECT_EQ(server_.engine->version(), 0x0304);
}

TEST_F(EngineTest, SaysNothingAboutThePeerBeforeTheHandshakeEnds) {
  client_.engine->Start(client_.out);
  EXPECT_EQ(client_.engine->state(), EngineState::kHandshaking);
  EXPECT_EQ(client_.engine->version(), 0);
  EXPECT_EQ(client_.engine->alpn(), "");
  client_.engine->Send(BytesOf("too early"), client_.out);
  const ClientHello hello = ParseClientHello(client_.out.Readable());
  EXPECT_EQ(hello.status, HelloStatus::kClientHello);
  EXPECT_TRUE(OffersAlpn(hello, kAlpnWeir));
  Deliver(client_, server_);
  EXPECT_TRUE(server_.in.empty());
}

TEST_F(EngineTest, SpeaksHttp2WhereAsked) {
  client_.engine = Engine::Client(alice_, kAlpnH2);
  Shake();
  EXPECT_EQ(client_.engine->alpn(), "h2");
  EXPECT_EQ(server_.engine->alpn(), "h2");
}

TEST_F(EngineTest, FailsWithoutCommonAlpn) {
  client_.engine = Engine::Client(alice_, "other/9");
  Shake();
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerAlert);
}

TEST_F(EngineTest, CarriesBytesBothWays) {
  Shake();
  client_.engine->Send(BytesOf("ping"), client_.out);
  server_.engine->Send(BytesOf("pong"), server_.out);
  EXPECT_EQ(TextOf(client_.out).find("ping"), std::string::npos);
  Deliver(client_, server_);
  Deliver(server_, client_);
  EXPECT_EQ(TextOf(server_.in), "ping");
  EXPECT_EQ(TextOf(client_.in), "pong");
}

TEST_F(EngineTest, TakesEverythingByteByByte) {
  Shake(/*step=*/1);
  ASSERT_EQ(server_.engine->state(), EngineState::kOpen);
  const std::string text = Pattern(40000);
  client_.engine->Send(BytesOf(text), client_.out);
  Deliver(client_, server_, /*step=*/1);
  EXPECT_EQ(TextOf(server_.in), text);
}

TEST_F(EngineTest, TakesAwkwardPieces) {
  const std::string text = Pattern(200'000);
  for (const std::size_t step : {4U, 5U, 6U, 16405U, 16406U, 16407U, 65536U}) {
    Open();
    client_.engine->Send(BytesOf(text), client_.out);
    Deliver(client_, server_, step);
    EXPECT_EQ(TextOf(server_.in), text) << step;
    server_.in.Clear();
  }
}

TEST_F(EngineTest, CarriesSixtyFourMegabytesInOneCall) {
  Shake();
  const std::string text = Pattern(std::size_t{64} << 20U);
  client_.engine->Send(BytesOf(text), client_.out);
  EXPECT_LE(client_.out.size(), text.size() + (text.size() / 16384 + 1) * 22);
  Deliver(client_, server_);
  EXPECT_EQ(TextOf(server_.in), text);
}

TEST_F(EngineTest, GivesWhatArrivesWithTheEndOfTheHandshake) {
  client_.engine->Start(client_.out);
  Deliver(client_, server_);
  Deliver(server_, client_);  // the client is open now, the server is not yet
  client_.engine->Send(BytesOf("early"), client_.out);
  Deliver(client_, server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kOpen);
  EXPECT_EQ(TextOf(server_.in), "early");
}

TEST_F(EngineTest, UpdatesKeysInBothDirections) {
  Open();
  for (int i = 0; i < 5; ++i) {
    client_.engine->UpdateKeys(/*ask_peer=*/true, client_.out);
    client_.engine->Send(BytesOf("a"), client_.out);
    Deliver(client_, server_, /*step=*/7);
    server_.engine->Send(BytesOf("b"), server_.out);
    Deliver(server_, client_, /*step=*/7);
  }
  EXPECT_EQ(TextOf(server_.in), "aaaaa");
  EXPECT_EQ(TextOf(client_.in), "bbbbb");
  EXPECT_EQ(client_.engine->state(), EngineState::kOpen);
}

TEST_F(EngineTest, FailsOnAFloodOfKeyUpdates) {
  Open();
  for (int i = 0; i < 100; ++i) {
    client_.engine->UpdateKeys(/*ask_peer=*/false, client_.out);
  }
  Deliver(client_, server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kFailed);
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
}

TEST_F(EngineTest, HoldsOneAnswerForManyRequestedKeyUpdates) {
  Open();
  for (int i = 0; i < 1000; ++i) {
    client_.engine->UpdateKeys(/*ask_peer=*/true, client_.out);
    client_.engine->Send(BytesOf("."), client_.out);
    Deliver(client_, server_);
  }
  EXPECT_EQ(TextOf(server_.in).size(), 1000U);
  EXPECT_LT(server_.out.size(), 100U);
  server_.engine->Send(BytesOf("b"), server_.out);
  EXPECT_LT(server_.out.size(), 200U);
  Deliver(server_, client_);
  EXPECT_EQ(TextOf(client_.in), "b");
}

TEST_F(EngineTest, ReplacesItsKeyBeforeItWearsOut) {
  Open(/*records_per_key=*/4);
  io::ByteBuffer plain;
  std::size_t most = 0;
  std::size_t bytes = 0;
  for (int i = 0; i < 9; ++i) {
    client_.engine->Send(BytesOf("x"), client_.out);
    most = std::max(most, client_.out.size());
    bytes += client_.out.size();
    Deliver(client_, server_);
  }
  EXPECT_EQ(TextOf(server_.in), "xxxxxxxxx");
  // A KeyUpdate is a record of 5 + 5 + 1 + 16 bytes, a byte of data one of 23.
  EXPECT_EQ(bytes, 9U * 23U + 2U * 27U);
  EXPECT_EQ(most, 23U + 27U);
}

TEST_F(EngineTest, ClosesOneDirectionAtATime) {
  Open();
  client_.engine->Send(BytesOf("last"), client_.out);
  client_.engine->Close(client_.out);
  client_.engine->Send(BytesOf("after the end"), client_.out);
  Deliver(client_, server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kPeerClosed);
  EXPECT_EQ(TextOf(server_.in), "last");
  server_.engine->Send(BytesOf("answer"), server_.out);
  server_.engine->Close(server_.out);
  Deliver(server_, client_);
  EXPECT_EQ(client_.engine->state(), EngineState::kPeerClosed);
  EXPECT_EQ(TextOf(client_.in), "answer");
}

TEST_F(EngineTest, IgnoresBytesAfterTheEnd) {
  Open();
  client_.engine->Close(client_.out);
  client_.out.Append(BytesOf("garbage"));
  Deliver(client_, server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kPeerClosed);
  EXPECT_TRUE(server_.out.empty());
}

TEST_F(EngineTest, FailsAtTheFirstByteThatIsNoTls) {
  for (const std::string_view text :
       {"G", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x04", "\x17"}) {
    server_.engine = Engine::Server(bob_);
    EXPECT_EQ(server_.engine->Receive(BytesOf(text), server_.in, server_.out),
              EngineState::kFailed);
    EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
    EXPECT_TRUE(server_.out.empty());
  }
}

TEST_F(EngineTest, FailsOnARecordThatIsTooLongAtItsHeader) {
  Open();
  const std::string header("\x17\x03\x03\x41\x01", 5);  // 16384 + 256 + 1
  EXPECT_EQ(server_.engine->Receive(BytesOf(header), server_.in, server_.out),
            EngineState::kFailed);
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kOversizedRecord);
  Deliver(server_, client_);
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerAlert);
}

TEST_F(EngineTest, FailsOnAForgedRecordAfterTheGoodOnes) {
  Open();
  client_.engine->Send(BytesOf("good"), client_.out);
  const std::string forged = std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x');
  client_.out.Append(BytesOf(forged));
  Deliver(client_, server_);
  EXPECT_EQ(TextOf(server_.in), "good");
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
  EXPECT_FALSE(server_.engine->failure_text().empty());
  server_.engine->Send(BytesOf("x"), server_.out);
  Deliver(server_, client_);
  EXPECT_TRUE(client_.in.empty());
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerAlert);
}

TEST_F(EngineTest, FailsOnAnyChangedByteOfTheHandshake) {
  client_.engine->Start(client_.out);
  const std::string hello = TextOf(client_.out);
  int failed = 0;
  for (std::size_t i = 5; i < hello.size(); i += 3) {
    std::string changed = hello;
    changed[i] = static_cast<char>(changed[i] ^ 0x55);
    End client{.engine = Engine::Client(alice_, kAlpnWeir), .out = {}, .in = {}};
    End server{.engine = Engine::Server(bob_), .out = {}, .in = {}};
    server.engine->Receive(BytesOf(changed), server.in, server.out);
    Deliver(server, client_);
    failed += server.engine->state() == EngineState::kFailed ? 1 : 0;
    EXPECT_NE(server.engine->state(), EngineState::kOpen);
    server.out.Clear();
    client_.engine = Engine::Client(alice_, kAlpnWeir);
    client_.out.Clear();
    client_.engine->Start(client_.out);
  }
  EXPECT_GT(failed, 0);
}

TEST_F(EngineTest, WaitsForeverForATruncatedHandshake) {
  client_.engine->Start(client_.out);
  const std::string hello = TextOf(client_.out);
  EXPECT_EQ(
      server_.engine->Receive(BytesOf(hello.substr(0, hello.size() - 1)), server_.in, server_.out),
      EngineState::kHandshaking);
  EXPECT_TRUE(server_.out.empty());
}

TEST_F(EngineTest, RefusesAPeerOfAnotherTrustDomain) {
  const TestPki other("two.test", clock_);
  client_.engine = Engine::Client(other.Workload("/ns/a/sa/alice", "node-a"), kAlpnWeir);
  Shake();
  // The client refuses the server first, which hears of it.
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerUntrusted);
  EXPECT_NE(client_.engine->failure_text().find("unknown-trust-domain"), std::string_view::npos);
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kPeerAlert);
}

TEST_F(EngineTest, ServerRefusesAClientItDoesNotTrust) {
  const TestPki other("two.test", clock_);
  TrustBundles both = pki_.Bundles();
  both.merge(other.Bundles());
  const auto mallory = WorkloadTls::Create(other.Issue("/ns/a/sa/mallory", "x"), both, clock_);
  ASSERT_TRUE(mallory.has_value());
  client_.engine = Engine::Client(*mallory, kAlpnWeir);
  Shake();
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kPeerUntrusted);
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerAlert);
  EXPECT_EQ(server_.engine->peer().spiffe_id, "");
}

TEST_F(EngineTest, RefusesAPeerWhoseCertificateExpired) {
  clock_.StepWall(std::chrono::hours(25));
  Shake();
  EXPECT_EQ(client_.engine->failure(), TlsFailure::kPeerExpired);
  EXPECT_NE(client_.engine->failure_text().find("expired"), std::string_view::npos);
}

TEST_F(EngineTest, GoesOnWhenTheClockStepsAfterTheHandshake) {
  Shake();
  clock_.StepWall(std::chrono::hours(48));
  client_.engine->Send(BytesOf("still"), client_.out);
  Deliver(client_, server_);
  EXPECT_EQ(TextOf(server_.in), "still");
}

// A plain BoringSSL client over memory, for what our own client would never do.
class ForeignClient {
 public:
  explicit ForeignClient(std::uint16_t version) : context_(SSL_CTX_new(TLS_method())) {
    EXPECT_EQ(SSL_CTX_set_max_proto_version(context_.get(), version), 1);
    ssl_.reset(SSL_new(context_.get()));
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_.get(), in_, out_);
    SSL_set_connect_state(ssl_.get());
  }
  SSL* ssl() { return ssl_.get(); }
  // One round trip with `server`.
  void Turn(End& server) {
    SSL_do_handshake(ssl_.get());
    std::vector<std::uint8_t> wire(65536);
    const int size = BIO_read(out_, wire.data(), static_cast<int>(wire.size()));
    if (size > 0) {
      server.engine->Receive(io::Bytes(wire).first(static_cast<std::size_t>(size)), server.in,
                             server.out);
    }
    BIO_write(in_, server.out.Readable().data(), static_cast<int>(server.out.size()));
    server.out.Clear();
  }

 private:
  bssl::UniquePtr<SSL_CTX> context_;
  bssl::UniquePtr<SSL> ssl_;
  BIO* in_ = nullptr;
  BIO* out_ = nullptr;
};

TEST_F(EngineTest, RefusesTls12) {
  ForeignClient client(TLS1_2_VERSION);
  client.Turn(server_);
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
}

TEST_F(EngineTest, RefusesAClientWithoutCertificate) {
  ForeignClient client(TLS1_3_VERSION);
  const std::string alpn = "\x06weir/1";
  SSL_set_alpn_protos(client.ssl(), BytesOf(alpn).data(), 7);
  client.Turn(server_);
  client.Turn(server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kFailed);
  EXPECT_EQ(server_.engine->failure(), TlsFailure::kProtocol);
  EXPECT_TRUE(server_.in.empty());
}

TEST_F(EngineTest, RefusesAClientWithoutAlpn) {
  ForeignClient client(TLS1_3_VERSION);
  const test::TestCertificate leaf = test::MakeCertificate(pki_.LeafSpec("/x/y"), &pki_.root());
  SSL_use_certificate(client.ssl(), leaf.certificate.get());
  SSL_use_PrivateKey(client.ssl(), leaf.key.get());
  client.Turn(server_);
  client.Turn(server_);
  EXPECT_EQ(server_.engine->state(), EngineState::kFailed);
  EXPECT_EQ(server_.engine->failure_text(), "no common ALPN");
}

TEST_F(EngineTest, PrefersAes128Gcm) {
  ForeignClient client(TLS1_3_VERSION);
  const std::string alpn = "\x06weir/1";
  SSL_set_alpn_protos(client.ssl(), BytesOf(alpn).data(), 7);
  client.Turn(server_);
  SSL_do_handshake(client.ssl());
  EXPECT_STREQ(SSL_CIPHER_get_name(SSL_get_current_cipher(client.ssl())), "TLS_AES_128_GCM_SHA256");
}

TEST(WorkloadTlsTest, NamesWhatIsWrongWithItsMaterial) {
  base::ManualClock clock;
  const TestPki pki("one.test", clock);
  const auto error_of = [&](const SvidMaterial& material, const TrustBundles& bundles) {
    const auto made = WorkloadTls::Create(material, bundles, clock);
    return made ? std::string("accepted") : made.error().message();
  };
  const auto good = [&] { return pki.Issue("/ns/a/sa/alice", "node-a"); };
  EXPECT_EQ(error_of(good(), pki.Bundles()), "accepted");
  EXPECT_EQ(error_of(good(), {}), "no trust bundle");

  auto other_key = good();
  other_key.private_key_pem = pki.Issue("/ns/a/sa/alice", "node-a").private_key_pem.Clone();
  EXPECT_NE(error_of(other_key, pki.Bundles()).find("and its key"), std::string::npos);

  auto no_key = good();
  no_key.private_key_pem = Secret("nonsense");
  EXPECT_NE(error_of(no_key, pki.Bundles()).find("holds no PEM private key"), std::string::npos);

  auto other_name = good();
  other_name.spiffe_id = "spiffe://one.test/ns/a/sa/bob";
  EXPECT_NE(error_of(other_name, pki.Bundles()).find("names spiffe://one.test/ns/a/sa/alice"),
            std::string::npos);

  const TestPki other("two.test", clock);
  EXPECT_NE(error_of(good(), other.Bundles()).find("unknown-trust-domain"), std::string::npos);
}

}  // namespace
}  // namespace weir::tls
