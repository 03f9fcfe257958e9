#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/io/event_loop.h"
#include "agent/io/socket.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/tunnel_pool.h"
#include "tests/support/test_pki.h"
#include "tests/support/tunnel_rig.h"

// Tunnels over real TLS and TCP sockets on loopback, between two loops in one thread.
namespace weir::test {

// What a session does with its stream: records, and keeps what was not written yet.
class TunnelSession final : public proxy::TunnelStreamHandler {
 public:
  void OnAccepted() noexcept override { ++accepted; }
  void OnRefused(observe::Reason reason, std::uint16_t answer, std::string_view) noexcept override {
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
  void OnReset(observe::Reason reason) noexcept override {
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

  std::unique_ptr<proxy::TunnelStream> stream;
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
  observe::Reason refused = observe::Reason::kNone;
  observe::Reason reset = observe::Reason::kNone;
  std::uint16_t status = 0;
};

// A node's agent as far as tunnels go: a loop, a listener, and whoever accepted.
class TunnelNode final : public proxy::TunnelOwner {
 public:
  explicit TunnelNode(const base::Clock& clock, std::shared_ptr<const tls::WorkloadTls> svid)
      : loop(io::EventLoop::Create(clock).value()),
        context{.loop = *loop, .budget = budget, .counters = counters, .limits = {}},
        workload(std::move(svid)) {
    listener = io::ListenTcp({.address = base::IpAddress::V4(htonl(INADDR_LOOPBACK))}, 128).value();
    address = base::LocalEndpoint(listener.get()).value();
  }
  observe::Reason OnTunnelUp(proxy::TunnelConnection& connection) noexcept override {
    peers.push_back(connection.peer().spiffe_id);
    return admit;
  }
  void OnTunnelStream(proxy::TunnelConnection&, std::unique_ptr<proxy::TunnelStream> stream,
                      const http::TunnelRequest& request) noexcept override {
    authorities.emplace_back(request.authority);
    if (refuse_with) {
      stream->Refuse(*refuse_with);
      return;
    }
    TunnelSession& session = *sessions.emplace_back(std::make_unique<TunnelSession>());
    session.stream = std::move(stream);
    session.stream->set_handler(session);
    if (accept_streams) {
      session.stream->Accept();
    }
  }
  void OnTunnelClosed(proxy::TunnelConnection&, observe::Reason reason,
                      std::string_view) noexcept override {
    closed.push_back(reason);
  }
  // Accepts what waits, and runs one turn.
  void Turn() {
    for (;;) {
      base::UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        break;
      }
      if (send_buffer_bytes > 0) {
        (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes,
                           sizeof(send_buffer_bytes));
      }
      tunnels.push_back(
          proxy::TunnelConnection::Accept(context, std::move(fd), workload, {}, *this));
    }
    loop->RunOnce(std::chrono::milliseconds(0));
  }

  std::unique_ptr<io::EventLoop> loop;
  http::WindowBudget budget{std::uint64_t{256} << 20U};
  proxy::TunnelCounters counters;
  proxy::TunnelContext context;
  std::shared_ptr<const tls::WorkloadTls> workload;
  base::UniqueFd listener;
  base::Endpoint address;
  std::vector<std::unique_ptr<proxy::TunnelConnection>> tunnels;
  std::vector<std::unique_ptr<TunnelSession>> sessions;
  std::vector<std::string> peers;
  std::vector<std::string> authorities;
  std::vector<observe::Reason> closed;
  observe::Reason admit = observe::Reason::kNone;
  std::optional<observe::Reason> refuse_with;
  bool accept_streams = true;
  int send_buffer_bytes = 0;  // 0: the kernel's choice
};

class TunnelSockets final : public seam::SocketFactory {
 public:
  base::Result<base::UniqueFd> Connect(const seam::ConnectRequest& request) override {
    requests.push_back(request);
    if (fail_with) {
      return std::unexpected(*fail_with);
    }
    return make ? make() : io::ConnectTcp(to.value_or(request.destination));
  }
  std::vector<seam::ConnectRequest> requests;
  std::optional<base::Endpoint> to;
  std::optional<base::Error> fail_with;
  std::function<base::UniqueFd()> make;
};

class TunnelMesh final : public proxy::TunnelEnvironment {
 public:
  std::shared_ptr<const tls::WorkloadTls> TlsOf(model::LocalId source) noexcept override {
    const auto found = svids.find(source);
    return found == svids.end() ? nullptr : found->second;
  }
  observe::Reason CheckPeer(const proxy::TunnelKey&, const tls::PeerInfo& peer) noexcept override {
    return peer.spiffe_id == expected ? observe::Reason::kNone
                                      : observe::Reason::kPeerIdentityMismatch;
  }
  std::map<model::LocalId, std::shared_ptr<const tls::WorkloadTls>> svids;
  std::string expected = "spiffe://one.test/ns/b/sa/bob";
};

inline constexpr auto kAlice = model::LocalId{1};
inline constexpr auto kCarol = model::LocalId{2};

// A client's pool and a server's loop in one thread, with a clock that the test turns.
class TunnelBed : public testing::Test {
 protected:
  TunnelBed()
      : pki_("one.test", clock_),
        server_(clock_, pki_.Workload("/ns/b/sa/bob", "node-b")),
        client_loop_(io::EventLoop::Create(clock_).value()),
        context_{.loop = *client_loop_, .budget = budget_, .counters = counters_, .limits = {}},
        pool_(std::make_unique<proxy::TunnelPool>(context_, sockets_, mesh_, 3)) {
    mesh_.svids[kAlice] = pki_.Workload("/ns/a/sa/alice", "node-a");
    mesh_.svids[kCarol] = pki_.Workload("/ns/a/sa/carol", "node-a");
    key_ = {.source = kAlice, .destination = server_.address};
  }
  ~TunnelBed() override {
    sessions_.clear();
    server_.sessions.clear();
  }
  TunnelSession& Open(const proxy::TunnelKey& key) {
    TunnelSession& session = *sessions_.emplace_back(std::make_unique<TunnelSession>());
    session.stream = pool_->Open(
        key, {.authority = server_.address.ToString(), .headers = {{"x-test", "1"}}}, session);
    return session;
  }
  TunnelSession& Open() { return Open(key_); }
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
  // Lets `time` go by, with turns of both loops `step` apart.
  void Pass(base::Nanoseconds time, base::Nanoseconds step = std::chrono::seconds(1)) {
    for (; time > base::Nanoseconds(0); time -= step) {
      clock_.Advance(step);
      Turn();
    }
    Settle();
  }
  // Turns until nothing can still be under way on loopback.
  void Settle() {
    for (int i = 0; i < 50; ++i) {
      Turn();
    }
  }

  base::ManualClock clock_;
  TestPki pki_;
  TunnelNode server_;
  std::unique_ptr<io::EventLoop> client_loop_;
  http::WindowBudget budget_{std::uint64_t{256} << 20U};
  proxy::TunnelCounters counters_;
  proxy::TunnelContext context_;
  TunnelSockets sockets_;
  TunnelMesh mesh_;
  proxy::TunnelKey key_;
  std::unique_ptr<proxy::TunnelPool> pool_;
  std::vector<std::unique_ptr<TunnelSession>> sessions_;
};

}  // namespace weir::test
