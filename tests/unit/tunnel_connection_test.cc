// Tunnels over real TLS and TCP sockets on loopback, between two loops in one thread.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/io/event_loop.h"
#include "agent/io/socket.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/tunnel_pool.h"
#include "tests/support/test_pki.h"
#include "tests/support/tunnel_rig.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using test::AsBytes;
using test::Pattern;

// What a session does with its stream: records, and keeps what was not written yet.
class Session final : public TunnelStreamHandler {
 public:
  void OnAccepted() noexcept override { ++accepted; }
  void OnRefused(Reason reason, std::uint16_t answer, std::string_view) noexcept override {
    ++refusals;
    refused = reason;
    status = answer;
  }
  void OnData(io::Bytes bytes) noexcept override {
    received.append(bytes.begin(), bytes.end());
    if (return_credit) {
      stream->ReturnCredit(bytes.size());
    }
  }
  void OnEnd() noexcept override { ++ends; }
  void OnReset(Reason reason) noexcept override {
    ++resets;
    reset = reason;
  }
  void OnWritable() noexcept override {
    ++writables;
    Pump();
  }
  void Send(std::string bytes) {
    to_send += bytes;
    Pump();
  }
  void Pump() {
    if (stream == nullptr) {
      return;
    }
    const std::size_t count = stream->Write(AsBytes(to_send).subspan(sent));
    sent += count;
    if (sent == to_send.size() && end_when_sent) {
      end_when_sent = false;
      stream->EndWrite();
    }
  }

  std::unique_ptr<TunnelStream> stream;
  std::string received;
  std::string to_send;
  std::size_t sent = 0;
  bool end_when_sent = false;
  bool return_credit = true;
  int accepted = 0;
  int refusals = 0;
  int ends = 0;
  int resets = 0;
  int writables = 0;
  Reason refused = Reason::kNone;
  Reason reset = Reason::kNone;
  std::uint16_t status = 0;
};

// A node's agent as far as tunnels go: a loop, a listener, and whoever accepted.
class Node final : public TunnelOwner {
 public:
  explicit Node(const base::Clock& clock, std::shared_ptr<const tls::WorkloadTls> svid)
      : loop(io::EventLoop::Create(clock).value()),
        context{.loop = *loop, .budget = budget, .counters = counters, .limits = {}},
        workload(std::move(svid)) {
    listener = io::ListenTcp({.address = base::IpAddress::V4(htonl(INADDR_LOOPBACK))}, 128).value();
    address = base::LocalEndpoint(listener.get()).value();
  }
  Reason OnTunnelUp(TunnelConnection& connection) noexcept override {
    peers.push_back(connection.peer().spiffe_id);
    return admit;
  }
  void OnTunnelStream(TunnelConnection&, std::unique_ptr<TunnelStream> stream,
                      const http::TunnelRequest& request) noexcept override {
    authorities.emplace_back(request.authority);
    if (refuse_with != 0) {
      stream->Refuse(refuse_with);
      return;
    }
    Session& session = *sessions.emplace_back(std::make_unique<Session>());
    session.stream = std::move(stream);
    session.stream->set_handler(session);
    if (accept_streams) {
      session.stream->Accept();
    }
  }
  void OnTunnelClosed(TunnelConnection&, Reason reason, std::string_view) noexcept override {
    closed.push_back(reason);
  }
  // Accepts what waits, and runs one turn.
  void Turn() {
    for (;;) {
      base::UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        break;
      }
      tunnels.push_back(TunnelConnection::Accept(context, std::move(fd), workload, {}, *this));
    }
    loop->RunOnce(std::chrono::milliseconds(0));
  }

  std::unique_ptr<io::EventLoop> loop;
  http::WindowBudget budget{std::uint64_t{256} << 20U};
  TunnelCounters counters;
  TunnelContext context;
  std::shared_ptr<const tls::WorkloadTls> workload;
  base::UniqueFd listener;
  base::Endpoint address;
  std::vector<std::unique_ptr<TunnelConnection>> tunnels;
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::string> peers;
  std::vector<std::string> authorities;
  std::vector<Reason> closed;
  Reason admit = Reason::kNone;
  std::uint16_t refuse_with = 0;
  bool accept_streams = true;
};

class Sockets final : public seam::SocketFactory {
 public:
  base::Result<base::UniqueFd> Connect(const seam::ConnectRequest& request) override {
    requests.push_back(request);
    if (fail_with) {
      return std::unexpected(*fail_with);
    }
    return io::ConnectTcp(to.value_or(request.destination));
  }
  std::vector<seam::ConnectRequest> requests;
  std::optional<base::Endpoint> to;
  std::optional<base::Error> fail_with;
};

class Mesh final : public TunnelEnvironment {
 public:
  std::shared_ptr<const tls::WorkloadTls> TlsOf(model::LocalId source) noexcept override {
    const auto found = svids.find(source);
    return found == svids.end() ? nullptr : found->second;
  }
  Reason CheckPeer(const TunnelKey&, const tls::PeerInfo& peer) noexcept override {
    return peer.spiffe_id == expected ? Reason::kNone : Reason::kPeerIdentityMismatch;
  }
  std::map<model::LocalId, std::shared_ptr<const tls::WorkloadTls>> svids;
  std::string expected = "spiffe://one.test/ns/b/sa/bob";
};

constexpr auto kAlice = model::LocalId{1};
constexpr auto kCarol = model::LocalId{2};

class TunnelConnectionTest : public testing::Test {
 protected:
  TunnelConnectionTest()
      : pki_("one.test", clock_),
        server_(clock_, pki_.Workload("/ns/b/sa/bob", "node-b")),
        client_loop_(io::EventLoop::Create(clock_).value()),
        context_{.loop = *client_loop_, .budget = budget_, .counters = counters_, .limits = {}},
        pool_(std::make_unique<TunnelPool>(context_, sockets_, mesh_, 3)) {
    mesh_.svids[kAlice] = pki_.Workload("/ns/a/sa/alice", "node-a");
    mesh_.svids[kCarol] = pki_.Workload("/ns/a/sa/carol", "node-a");
    key_ = {.source = kAlice, .destination = server_.address};
  }
  ~TunnelConnectionTest() override {
    sessions_.clear();
    server_.sessions.clear();
  }
  Session& Open(const TunnelKey& key) {
    Session& session = *sessions_.emplace_back(std::make_unique<Session>());
    session.stream = pool_->Open(
        key, {.authority = server_.address.ToString(), .headers = {{"x-test", "1"}}}, session);
    return session;
  }
  Session& Open() { return Open(key_); }
  void Turn() {
    client_loop_->RunOnce(std::chrono::milliseconds(0));
    server_.Turn();
    clock_.Advance(std::chrono::microseconds(50));
  }
  // Turns until `done`, at most some seconds of the machine's time.
  template <typename Done>
  bool Until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) {
        return false;
      }
      Turn();
    }
    return true;
  }
  // Turns until nothing can still be under way on loopback.
  void Settle() {
    for (int i = 0; i < 50; ++i) {
      Turn();
    }
  }

  base::ManualClock clock_;
  test::TestPki pki_;
  Node server_;
  std::unique_ptr<io::EventLoop> client_loop_;
  http::WindowBudget budget_{std::uint64_t{256} << 20U};
  TunnelCounters counters_;
  TunnelContext context_;
  Sockets sockets_;
  Mesh mesh_;
  TunnelKey key_;
  std::unique_ptr<TunnelPool> pool_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

TEST_F(TunnelConnectionTest, CarriesAStreamWithEarlyData) {
  server_.accept_streams = false;
  Session& session = Open();
  EXPECT_FALSE(session.stream->opened());
  session.Send("early");
  ASSERT_TRUE(
      Until([&] { return !server_.sessions.empty() && !server_.sessions[0]->received.empty(); }));
  EXPECT_EQ(server_.sessions[0]->received, "early");
  EXPECT_EQ(server_.authorities[0], server_.address.ToString());
  EXPECT_EQ(session.accepted, 0);
  server_.sessions[0]->stream->Accept();
  server_.sessions[0]->Send("answer");
  ASSERT_TRUE(Until([&] { return session.received == "answer"; }));
  EXPECT_EQ(session.accepted, 1);
  EXPECT_EQ(server_.peers[0], "spiffe://one.test/ns/a/sa/alice");
  EXPECT_EQ(session.stream->connection()->peer().spiffe_id, "spiffe://one.test/ns/b/sa/bob");
  EXPECT_EQ(session.stream->connection()->peer().node, "node-b");
  EXPECT_EQ(session.stream->connection()->tls_version(), 0x0304);
  EXPECT_EQ(session.stream->connection()->alpn(), "weir/1");
  ASSERT_EQ(sockets_.requests.size(), 1U);
  EXPECT_EQ(sockets_.requests[0].from, kAlice);
  EXPECT_EQ(sockets_.requests[0].kind, seam::LegKind::kTunnel);
  EXPECT_EQ(sockets_.requests[0].worker, 3U);
}

TEST_F(TunnelConnectionTest, UsesPort15008AndH2WhereAskedTo) {
  sockets_.to = server_.address;
  key_.destination.port = 8080;
  key_.port = model::TunnelPort::kHbone15008;
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  EXPECT_EQ(sockets_.requests[0].destination.port, 15008);
  EXPECT_EQ(session.stream->connection()->alpn(), "h2");
}

TEST_F(TunnelConnectionTest, MovesMuchBothWaysAndHalfCloses) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& served = *server_.sessions[0];
  const std::string there = Pattern(24U << 20U, 1);
  const std::string back = Pattern(24U << 20U, 2);
  session.end_when_sent = served.end_when_sent = true;
  session.Send(there);
  served.Send(back);
  ASSERT_TRUE(Until([&] { return session.ends == 1 && served.ends == 1; }));
  EXPECT_TRUE(served.received == there);
  EXPECT_TRUE(session.received == back);
  Settle();
  EXPECT_EQ(session.stream->connection()->stream_count(), 0U);
  EXPECT_EQ(session.resets + served.resets, 0);
}

TEST_F(TunnelConnectionTest, AReaderThatStopsStopsTheWriter) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& served = *server_.sessions[0];
  served.return_credit = false;
  session.Send(Pattern(8U << 20U));
  Settle();
  EXPECT_EQ(served.received.size(), 256U << 10U);
  EXPECT_EQ(session.sent, 256U << 10U);
  // Others on the same tunnel go on.
  Session& other = Open();
  other.Send(Pattern(2U << 20U, 5));
  ASSERT_TRUE(Until([&] {
    return server_.sessions.size() == 2 && server_.sessions[1]->received.size() == 2U << 20U;
  }));
  EXPECT_EQ(pool_->size(), 1U);
  served.return_credit = true;
  served.stream->ReturnCredit(served.received.size());
  ASSERT_TRUE(Until([&] { return served.received.size() == 8U << 20U; }));
}

// A peer whose socket takes nothing: writers stop at the output limit, nothing spins, and all
// goes on when the peer reads again.
TEST_F(TunnelConnectionTest, AFullSocketStopsWritersAndLosesNothing) {
  context_.limits.output_limit_bytes = 256U << 10U;
  server_.context.limits.mux.stream_window_bytes = 4U << 20U;
  server_.context.limits.mux.tunnel_window_bytes = 64U << 20U;
  std::vector<Session*> writers;
  for (int i = 0; i < 8; ++i) {
    writers.push_back(&Open());
  }
  ASSERT_TRUE(Until([&] { return writers[7]->accepted == 1; }));
  Settle();
  std::size_t sent = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    writers[i]->Send(Pattern(4U << 20U, static_cast<std::uint32_t>(i)));
  }
  std::size_t before = SIZE_MAX;
  for (int i = 0; i < 200; ++i) {
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  int asked = 0;
  for (const Session* writer : writers) {
    asked += writer->writables;
    sent += writer->sent;
  }
  before = sent;
  for (int i = 0; i < 200; ++i) {
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  sent = 0;
  for (const Session* writer : writers) {
    asked -= writer->writables;
    sent += writer->sent;
  }
  EXPECT_EQ(sent, before) << "the socket was not full yet";
  EXPECT_EQ(asked, 0) << "writers are asked although nothing can be taken";
  EXPECT_LT(sent, 16U << 20U);
  ASSERT_TRUE(Until([&] {
    return std::ranges::all_of(server_.sessions,
                               [](const auto& s) { return s->received.size() == 4U << 20U; });
  }));
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(server_.sessions[i]->received == Pattern(4U << 20U, static_cast<std::uint32_t>(i)));
  }
}

TEST_F(TunnelConnectionTest, ReusesATunnelButNeverForAnotherIdentityOrDestination) {
  for (int i = 0; i < 10; ++i) {
    Open();
  }
  ASSERT_TRUE(Until([&] { return sessions_.back()->accepted == 1; }));
  Open();
  EXPECT_EQ(pool_->size(), 1U);
  TunnelKey other = key_;
  other.source = kCarol;
  Session& carol = Open(other);
  ASSERT_TRUE(Until([&] { return carol.accepted == 1; }));
  EXPECT_EQ(pool_->size(), 2U);
  EXPECT_EQ(server_.peers[1], "spiffe://one.test/ns/a/sa/carol");
  TunnelKey elsewhere = key_;
  elsewhere.destination.address = base::IpAddress::V4(htonl(0x7f000002U));
  sockets_.to = server_.address;
  Session& third = Open(elsewhere);
  ASSERT_TRUE(Until([&] { return third.accepted == 1; }));
  EXPECT_EQ(pool_->size(), 3U);
}

TEST_F(TunnelConnectionTest, ARenewedSvidGetsATunnelOfItsOwnAndOldStreamsGoOn) {
  Session& old = Open();
  ASSERT_TRUE(Until([&] { return old.accepted == 1; }));
  mesh_.svids[kAlice] = pki_.Workload("/ns/a/sa/alice", "node-a");
  Session& fresh = Open();
  ASSERT_TRUE(Until([&] { return fresh.accepted == 1; }));
  EXPECT_NE(old.stream->connection(), fresh.stream->connection());
  old.Send("still here");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "still here"; }));
  old.stream->Reset();
  ASSERT_TRUE(Until([&] { return pool_->size() == 1; }));
}

TEST_F(TunnelConnectionTest, TellsAStandingTunnelWhosePeerIsNotTheRightOneAnyMore) {
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  mesh_.expected = "spiffe://one.test/ns/b/sa/dora";
  Session& second = Open();
  ASSERT_TRUE(Until([&] { return second.refusals == 1; }));
  EXPECT_EQ(second.refused, Reason::kPeerIdentityMismatch);
  EXPECT_EQ(first.resets, 0);  // the scan of the sessions decides about that one
}

TEST_F(TunnelConnectionTest, SaysWhyThereIsNoTunnel) {
  TunnelKey nobody = key_;
  nobody.source = model::LocalId{9};
  Session& no_identity = Open(nobody);
  EXPECT_EQ(no_identity.refusals, 0);  // never from within Open
  Turn();
  EXPECT_EQ(no_identity.refused, Reason::kNoIdentity);

  sockets_.fail_with = base::Error(base::ErrorCode::kNotFound, "gone");
  Session& gone = Open();
  Turn();
  EXPECT_EQ(gone.refused, Reason::kNamespaceGone);
  sockets_.fail_with.reset();

  base::UniqueFd closed = io::ListenTcp({.address = server_.address.address}, 1).value();
  TunnelKey refused_key = key_;
  refused_key.destination = base::LocalEndpoint(closed.get()).value();
  closed.Reset();
  Session& refused = Open(refused_key);
  ASSERT_TRUE(Until([&] { return refused.refusals == 1; }));
  EXPECT_EQ(refused.refused, Reason::kUpstreamRefused);
  EXPECT_EQ(pool_->size(), 0U);

  Session& withdrawn = Open(nobody);
  withdrawn.stream.reset();
  Turn();
  EXPECT_EQ(withdrawn.refusals, 0);
}

TEST_F(TunnelConnectionTest, RefusesAPeerOfAnotherTrustDomain) {
  const test::TestPki other("two.test", clock_);
  server_.workload = other.Workload("/ns/b/sa/bob", "node-b");
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1 && !server_.closed.empty(); }));
  EXPECT_EQ(session.refused, Reason::kPeerUntrusted);
  EXPECT_EQ(server_.closed[0], Reason::kTlsHandshakeFailed);
}

TEST_F(TunnelConnectionTest, IsToldWhenTheServerRefusesItsCertificate) {
  const test::TestPki other("one.test", clock_);  // the same name, another root
  mesh_.svids[kAlice] = other.Workload("/ns/a/sa/alice", "node-a");
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1 && !server_.closed.empty(); }));
  EXPECT_TRUE(server_.closed[0] == Reason::kPeerUntrusted ||
              server_.closed[0] == Reason::kTlsHandshakeFailed);
  EXPECT_TRUE(server_.authorities.empty());
}

TEST_F(TunnelConnectionTest, ClosesATunnelWhosePeerTheOwnerDoesNotAdmit) {
  server_.admit = Reason::kPeerNodeMismatch;
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1; }));
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kPeerNodeMismatch});
  EXPECT_EQ(session.refused, Reason::kTunnelClosed);
}

TEST_F(TunnelConnectionTest, HandsOnTheStatusOfARefusal) {
  server_.refuse_with = 503;
  Session& session = Open();
  session.Send("lost");
  ASSERT_TRUE(Until([&] { return session.refusals == 1; }));
  EXPECT_EQ(session.status, 503);
  EXPECT_EQ(session.refused, Reason::kTunnelRefused);
  EXPECT_EQ(session.stream->connection(), nullptr);
  EXPECT_EQ(pool_->size(), 1U);
}

TEST_F(TunnelConnectionTest, HandsOnAReset) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  server_.sessions[0]->stream->Reset(http::H2Error::kConnectError);
  ASSERT_TRUE(Until([&] { return session.resets == 1; }));
  EXPECT_EQ(session.reset, Reason::kUpstreamReset);
  EXPECT_EQ(server_.sessions[0]->resets, 0);
}

TEST_F(TunnelConnectionTest, BoundsTheHandshake) {
  const base::UniqueFd silent = io::ListenTcp({.address = server_.address.address}, 8).value();
  sockets_.to = base::LocalEndpoint(silent.get()).value();
  Session& session = Open();
  const base::UniqueFd mute = io::ConnectTcp(server_.address).value();
  Settle();
  ASSERT_EQ(server_.tunnels.size(), 1U);
  clock_.Advance(std::chrono::milliseconds(4900));
  Settle();
  EXPECT_EQ(session.refusals, 0);
  EXPECT_TRUE(server_.closed.empty());
  clock_.Advance(std::chrono::milliseconds(200));
  Settle();
  EXPECT_EQ(session.refused, Reason::kTlsHandshakeTimeout);
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kTlsHandshakeTimeout});
}

TEST_F(TunnelConnectionTest, RefusesGarbage) {
  const base::UniqueFd raw = io::ConnectTcp(server_.address).value();
  Settle();
  ASSERT_GT(::send(raw.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 0);
  ASSERT_TRUE(Until([&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kTlsHandshakeFailed);
}

TEST_F(TunnelConnectionTest, ClosesWhenIdle) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  clock_.Advance(std::chrono::seconds(20));
  Settle();
  session.stream->Reset();
  Settle();
  for (int second = 0; second < 55; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  EXPECT_EQ(pool_->size(), 1U);
  for (int second = 0; second < 10; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  Settle();
  EXPECT_EQ(pool_->size(), 0U);
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kNone});
  EXPECT_EQ(counters_.closed[0].value(), 1U);
}

TEST_F(TunnelConnectionTest, KeepsATunnelWhoseStreamsAreSilent) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  for (int second = 0; second < 7200; ++second) {  // two idle hours (F35)
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  EXPECT_EQ(session.resets, 0);
  session.Send("awake");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "awake"; }));
}

TEST_F(TunnelConnectionTest, NoticesAPeerThatIsGone) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Settle();
  for (int second = 0; second < 39; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    client_loop_->RunOnce(std::chrono::milliseconds(0));  // the server's loop stands still
  }
  EXPECT_EQ(session.resets, 0);
  for (int second = 0; second < 5; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kTunnelClosed);
  EXPECT_EQ(pool_->size(), 0U);
}

TEST_F(TunnelConnectionTest, OpensAnotherTunnelAtThePeersStreamLimit) {
  server_.context.limits.mux.max_peer_streams = 2;
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  for (int i = 0; i < 5; ++i) {
    Open();
  }
  ASSERT_TRUE(Until([&] {
    return std::ranges::all_of(sessions_, [](const auto& s) { return s->accepted == 1; });
  }));
  EXPECT_GE(pool_->size(), 3U);
  EXPECT_LE(pool_->size(), TunnelPool::kMaxTunnelsPerKey);
  // Beyond what all of them carry, streams wait for one to end.
  for (int i = 0; i < 4; ++i) {
    Open();
  }
  Settle();
  EXPECT_EQ(sessions_.back()->accepted, 0);
  EXPECT_EQ(pool_->size(), TunnelPool::kMaxTunnelsPerKey);
  for (std::size_t i = 0; i < 4; ++i) {
    sessions_[i]->stream->Reset();
  }
  ASSERT_TRUE(Until([&] { return sessions_.back()->accepted == 1; }));
}

TEST_F(TunnelConnectionTest, TriesStreamsThatADrainingPeerNeverSawAgain) {
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  server_.tunnels[0]->Close(Reason::kDraining, "test");
  Session& second = Open();  // does not know yet
  ASSERT_TRUE(Until([&] { return first.resets == 1; }));
  EXPECT_EQ(first.reset, Reason::kTunnelClosed);
  ASSERT_TRUE(Until([&] { return second.accepted == 1; }));
  EXPECT_EQ(second.refusals, 0);
  EXPECT_EQ(server_.tunnels.size(), 2U);
}

TEST_F(TunnelConnectionTest, DrainsWithoutALoss) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  server_.tunnels[0]->Drain();
  Settle();
  session.Send("goes on");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "goes on"; }));
  Session& next = Open();
  ASSERT_TRUE(Until([&] { return next.accepted == 1; }));
  EXPECT_EQ(server_.tunnels.size(), 2U);
  session.stream->Reset();
  ASSERT_TRUE(Until([&] { return server_.closed.size() == 1; }));
  EXPECT_EQ(server_.closed[0], Reason::kNone);
  EXPECT_EQ(session.resets + next.resets, 0);
}

TEST_F(TunnelConnectionTest, AWorkloadsEndClosesItsTunnelsAtOnce) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& waiting =
      Open({.source = kAlice,
            .destination = {.address = server_.address.address, .port = server_.address.port}});
  TunnelKey other = key_;
  other.source = kCarol;
  Session& carol = Open(other);
  Settle();
  pool_->CloseSource(kAlice);
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kNamespaceGone);
  EXPECT_EQ(waiting.resets + waiting.refusals, 1);
  Settle();
  EXPECT_EQ(carol.resets, 0);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
  EXPECT_EQ(pool_->size(), 1U);
}

// A verified peer that breaks the framing is cut off, and counted.
TEST_F(TunnelConnectionTest, CutsOffAPeerThatBreaksTheFraming) {
  const base::UniqueFd fd = io::ConnectTcp(server_.address).value();
  auto engine = tls::Engine::Client(mesh_.svids[kAlice], tls::kAlpnWeir);
  io::ByteBuffer out;
  io::ByteBuffer plaintext;
  engine->Start(out);
  ASSERT_TRUE(Until([&] {
    if (!out.empty()) {
      const ssize_t sent = ::send(fd.get(), out.Readable().data(), out.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        out.Consume(static_cast<std::size_t>(sent));
      }
    }
    std::array<std::uint8_t, 16384> bytes{};
    const ssize_t got = ::recv(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) {
      engine->Receive(io::Bytes(bytes).first(static_cast<std::size_t>(got)), plaintext, out);
      if (engine->state() == tls::EngineState::kOpen && server_.closed.empty()) {
        engine->Send(AsBytes("this is no HTTP/2 preface"), out);
      }
    }
    return !server_.closed.empty();
  }));
  EXPECT_EQ(server_.closed[0], Reason::kTunnelProtocol);
  EXPECT_EQ(
      server_.counters.violations[static_cast<std::size_t>(http::TunnelViolation::kBadPreface)]
          .value(),
      1U);
}

TEST_F(TunnelConnectionTest, StreamsMayOutliveTheirTunnel) {
  Session& ended = Open();
  Session& open = Open();
  ASSERT_TRUE(Until([&] { return open.accepted == 1; }));
  server_.sessions[0]->return_credit = false;
  ended.end_when_sent = true;
  ended.Send("kept");
  server_.sessions[0]->end_when_sent = true;
  server_.sessions[0]->Send("");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->ends == 1 && ended.ends == 1; }));
  pool_.reset();
  EXPECT_EQ(open.resets, 1);
  EXPECT_EQ(ended.resets, 0);
  open.Send("nowhere");
  ended.stream->ReturnCredit(0);
  Settle();
  server_.tunnels.clear();
  server_.sessions[0]->stream->ReturnCredit(4);  // of a tunnel that is gone
}

TEST_F(TunnelConnectionTest, ManyShortStreams) {
  for (int round = 0; round < 20; ++round) {
    sessions_.clear();
    server_.sessions.clear();
    for (int i = 0; i < 50; ++i) {
      Session& session = Open();
      session.end_when_sent = true;
      session.Send("hello");
    }
    ASSERT_TRUE(Until([&] {
      for (const auto& session : server_.sessions) {
        if (session->ends == 1 && session->to_send.empty()) {
          session->end_when_sent = true;
          session->Send("world");
        }
      }
      return std::ranges::all_of(sessions_, [](const auto& s) { return s->ends == 1; });
    }));
    for (const auto& session : sessions_) {
      ASSERT_EQ(session->received, "world");
    }
  }
  EXPECT_EQ(counters_.streams_opened.value(), 1000U);
  EXPECT_EQ(pool_->size(), 1U);
}

}  // namespace
}  // namespace weir::proxy
