// Workers behind the real interception: two nodes' agents in one process, their pods on
// one bridge, so that whatever goes from pod to pod is what a wire would carry.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/datapath/datapath.h"
#include "agent/proxy/worker.h"
#include "tests/support/agent.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/root_test.h"
#include "tests/support/sandbox.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::TlsMode;
using observe::Direction;
using observe::MtlsState;
using observe::Reason;

constexpr std::uint32_t kWorkers = 2;
constexpr std::uint16_t kPort = 8080;

// One node's agent, as far as the data path needs it.
struct NodeAgent {
  explicit NodeAgent(std::string node_name) : name(std::move(node_name)) {}
  ~NodeAgent() {
    if (workers != nullptr) {
      workers->Stop();
    }
  }
  NodeAgent(const NodeAgent&) = delete;
  NodeAgent& operator=(const NodeAgent&) = delete;

  std::string name;
  RecordCollector records;
  std::unique_ptr<datapath::Datapath> datapath;
  std::unique_ptr<proxy::WorkerSet> workers;
};

struct TestPod {
  std::string name;
  Pod pod;
  std::size_t node = 0;
  model::LocalId id = model::LocalId::kNone;
  std::shared_ptr<const model::Workload> workload;
  TlsMode mode = TlsMode::kStrict;
};

class ProxyNetnsTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<Sandbox>();
    bridge_ = &sandbox_->AddBridge("wire", 67);
    for (const std::string name : {"node-a", "node-b"}) {
      auto node = std::make_unique<NodeAgent>(name);
      auto datapath = datapath::Datapath::Create(OptionsFor(*sandbox_, name));
      ASSERT_TRUE(datapath) << datapath.error().ToString();
      node->datapath = std::move(*datapath);
      auto workers = proxy::WorkerSet::Create({.sockets = *node->datapath,
                                               .redirections = *node->datapath,
                                               .records = node->records,
                                               .post_to_worker = {}},
                                              kWorkers);
      ASSERT_TRUE(workers) << workers.error().ToString();
      node->workers = std::move(*workers);
      ASSERT_TRUE(node->workers->Start(/*pin=*/false));
      nodes_.push_back(std::move(node));
    }
    client_ = AddPod("client", 0);
    neighbour_ = AddPod("neighbour", 0);
    server_ = AddPod("server", 1);
    stranger_ = sandbox_->AddPod("stranger", *bridge_);
    for (const std::size_t pod : {neighbour_, server_}) {
      listeners_.push_back(pods_[pod].pod.ns->Run(
          [] { return Listen("::", kPort, ListenOptions{.dual_stack = true}); }));
    }
    Enrol();
  }

  void TearDown() override {
    for (const auto& node : nodes_) {
      node->workers->Stop();  // before the sockets' maker
    }
    nodes_.clear();
    listeners_.clear();
    sandbox_.reset();
  }

  std::size_t AddPod(const std::string& name, std::size_t node) {
    TestPod pod{.name = name,
                .pod = sandbox_->AddPod(name, *bridge_),
                .node = node,
                .id = model::LocalId{static_cast<std::uint32_t>(pods_.size() + 1)},
                .workload = nullptr};
    pod.workload = std::make_shared<model::Workload>(model::Workload{
        .name = name,
        .ns = "test",
        .service_account = name,
        .identity = model::SpiffeId::Make("mesh.test", "/ns/test/sa/" + name).value(),
        .node = nodes_[node]->name,
        .addresses = {base::IpAddress::Parse(pod.pod.v4).value(),
                      base::IpAddress::Parse(pod.pod.v6).value()},
        .inbounds = {{.port = kPort, .name = "main"}},
        .labels = {}});
    pods_.push_back(std::move(pod));
    return pods_.size() - 1;
  }

  void Publish() {
    ++revision_;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      model::Snapshot::Parts parts{.revision = revision_,
                                   .trust_domain = "mesh.test",
                                   .node_name = nodes_[i]->name,
                                   .mesh_ranges = {base::Cidr::Parse("198.18.0.0/15").value(),
                                                   base::Cidr::Parse("fd00::/8").value()},
                                   .workloads = {},
                                   .locals = {},
                                   .limits = {}};
      for (const TestPod& pod : pods_) {
        parts.workloads.push_back(pod.workload);
        if (pod.node == i) {
          auto local = std::make_shared<model::LocalWorkload>();
          local->id = pod.id;
          local->workload = pod.workload;
          local->tls_mode = pod.mode;
          local->permissions.general =
              MakePermissions({{.match = {.kind = model::PermissionMatch::Kind::kPrefix,
                                          .spiffe_id = "spiffe://mesh.test/",
                                          .server_name = {}}}});
          parts.locals.push_back(std::move(local));
        }
      }
      nodes_[i]->workers->InstallSnapshot(
          std::make_shared<const model::Snapshot>(std::move(parts)));
      for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        ASSERT_TRUE(ProxyBed::Eventually(
            [&] { return nodes_[i]->workers->at(worker).stats().snapshots.value() >= revision_; }));
      }
    }
  }

  void Enrol() {
    Publish();
    for (const TestPod& pod : pods_) {
      NodeAgent& node = *nodes_[pod.node];
      node.workers->InstallCredential(pod.id, pki_.Workload("/ns/test/sa/" + pod.name, node.name));
      auto listeners = node.datapath->Enrol({.id = pod.id,
                                             .name = pod.name,
                                             .match = datapath::NetnsPath{pod.pod.ns->path()},
                                             .ports = {}});
      ASSERT_TRUE(listeners) << listeners.error().ToString();
      for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        node.workers->at(worker).Post(
            proxy::AddListeners{.listeners = std::move((*listeners)[worker])});
      }
    }
  }

  // A connection from a pod; invalid if it was refused.
  static base::UniqueFd Connect(const Pod& from, const std::string& address,
                                std::uint16_t port = kPort) {
    return from.ns->Run([&]() -> base::UniqueFd {
      auto fd = Dial(address, port);
      return fd ? std::move(*fd) : base::UniqueFd();
    });
  }
  const Pod& PodOf(std::size_t index) { return pods_[index].pod; }
  int ListenerOf(std::size_t pod) { return listeners_[pod == neighbour_ ? 0 : 1].get(); }
  std::optional<observe::Record> RecordOf(std::size_t node, Direction direction) {
    return nodes_[node]->records.WaitFor(
        [&](const auto& record) { return record.flow.direction == direction; });
  }

  // Sends both ways and says whose address the application saw.
  std::string Talk(std::size_t from, std::size_t to, const std::string& address) {
    const auto client = Connect(PodOf(from), address);
    if (!client.valid() || !SendText(client.get(), "*question")) {
      return "no connection";
    }
    const auto served = AcceptOne(ListenerOf(to));
    if (!served.valid() || ReceiveText(served.get(), 9) != "*question" ||
        !SendText(served.get(), "answer") || ReceiveText(client.get(), 6) != "answer") {
      return "no conversation";
    }
    return base::RemoteEndpoint(served.get())->address.ToString();
  }

  TestPki pki_{"mesh.test", base::SystemClock()};
  std::unique_ptr<Sandbox> sandbox_;
  Namespace* bridge_ = nullptr;
  std::vector<std::unique_ptr<NodeAgent>> nodes_;
  std::vector<TestPod> pods_;
  std::vector<base::UniqueFd> listeners_;
  std::size_t client_ = 0;
  std::size_t neighbour_ = 0;
  std::size_t server_ = 0;
  Pod stranger_;
  std::uint64_t revision_ = 0;
};

TEST_F(ProxyNetnsTest, TunnelsBetweenNodesAndKeepsTheClientsAddress) {
  EXPECT_EQ(Talk(client_, server_, PodOf(server_).v4), PodOf(client_).v4);
  const auto out = RecordOf(0, Direction::kOutbound);
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->flow.mtls, MtlsState::kTunnel);
  EXPECT_EQ(out->flow.reason, Reason::kNone);
  EXPECT_EQ(out->flow.tls_version, 0x0304);
  const auto in = RecordOf(1, Direction::kInbound);
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->flow.mtls, MtlsState::kTunnel);
  EXPECT_EQ(in->flow.source.workload->name, "client");
  EXPECT_EQ(in->flow.bytes_sent, 9U);
}

TEST_F(ProxyNetnsTest, TunnelsOverIpv6) {
  EXPECT_EQ(Talk(client_, server_, PodOf(server_).v6), PodOf(client_).v6);
  EXPECT_EQ(Talk(client_, server_, PodOf(server_).v6), PodOf(client_).v6);
}

TEST_F(ProxyNetnsTest, JoinsTwoPodsOfOneNodeWithAWitness) {
  EXPECT_EQ(Talk(client_, neighbour_, PodOf(neighbour_).v4), PodOf(client_).v4);
  EXPECT_EQ(Talk(client_, neighbour_, PodOf(neighbour_).v6), PodOf(client_).v6);
  const auto out = RecordOf(0, Direction::kOutbound);
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->flow.mtls, MtlsState::kLocal);
  EXPECT_EQ(out->flow.reason, Reason::kNone);
}

TEST_F(ProxyNetnsTest, RefusesAJoinWhereTheWayItReplacesIsClosed) {
  // What the client's interface sends to the neighbour goes to nobody.
  PodOf(client_).ns->Run([&] {
    const auto set = RunCommand({"ip", "neigh", "replace", PodOf(neighbour_).v4, "lladdr",
                                 "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"});
    ASSERT_TRUE(set) << set.error().ToString();
  });
  const auto client = Connect(PodOf(client_), PodOf(neighbour_).v4);
  ASSERT_TRUE(client.valid());
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = RecordOf(0, Direction::kOutbound);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.reason, Reason::kWitnessRefused);
  EXPECT_FALSE(AcceptOne(ListenerOf(neighbour_), std::chrono::milliseconds(50)).valid());
}

TEST_F(ProxyNetnsTest, RefusesPlainTextToAStrictPodAndDeliversItToAPermissiveOne) {
  {
    const auto client = Connect(stranger_, PodOf(server_).v4);
    ASSERT_TRUE(client.valid());
    (void)SendText(client.get(), "*plain");
    EXPECT_NE(ReceiveEnd(client.get()), StreamEnd::kNothing);
    const auto record = RecordOf(1, Direction::kInbound);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->flow.reason, Reason::kPlaintextRefused);
  }
  pods_[server_].mode = TlsMode::kPermissive;
  Publish();
  const auto client = Connect(stranger_, PodOf(server_).v4);
  ASSERT_TRUE(client.valid());
  ASSERT_TRUE(SendText(client.get(), "*plain"));
  const auto served = AcceptOne(ListenerOf(server_));
  ASSERT_TRUE(served.valid());
  EXPECT_EQ(ReceiveText(served.get(), 6), "*plain");
  EXPECT_EQ(base::RemoteEndpoint(served.get())->address.ToString(), stranger_.v4);
}

TEST_F(ProxyNetnsTest, ResetsAConnectionToAPortThatNobodyListensOn) {
  const auto client = Connect(PodOf(client_), PodOf(server_).v4, 9);
  ASSERT_TRUE(client.valid());
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = RecordOf(0, Direction::kOutbound);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.reason, Reason::kUpstreamRefused);
}

TEST_F(ProxyNetnsTest, ResetsAConnectionToADeadPortOfItsOwnNodeSoon) {
  ASSERT_EQ(Talk(client_, neighbour_, PodOf(neighbour_).v4), PodOf(client_).v4);
  listeners_[0].Reset();  // its witness is still good
  for (const std::uint16_t port : {kPort, std::uint16_t{9}}) {
    const auto before = std::chrono::steady_clock::now();
    const auto client = Connect(PodOf(client_), PodOf(neighbour_).v4, port);
    ASSERT_TRUE(client.valid());
    EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(1500)) << port;
    const auto record = nodes_[0]->records.WaitFor([&](const auto& each) {
      return each.flow.reason != Reason::kNone && each.flow.destination.endpoint.port == port;
    });
    ASSERT_TRUE(record.has_value()) << port;
    EXPECT_TRUE(record->flow.reason == Reason::kUpstreamRefused ||
                record->flow.reason == Reason::kWitnessRefused)
        << observe::ToString(record->flow.reason);
  }
}

TEST_F(ProxyNetnsTest, LetsAnApplicationBeginAgainOnItsPortWhileATunnelIsOpen) {
  ASSERT_EQ(Talk(client_, server_, PodOf(server_).v4), PodOf(client_).v4);
  listeners_[1].Reset();
  PodOf(server_).ns->Run([&] {
    const base::UniqueFd again(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ASSERT_EQ(::setsockopt(again.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    const auto raw =
        base::ToSockaddr({.address = base::IpAddress::Parse("0.0.0.0").value(), .port = kPort});
    EXPECT_EQ(::bind(again.get(), raw.get(), raw.length), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(again.get(), 1), 0);
  });
}

TEST_F(ProxyNetnsTest, AnswersTheSelfProbeOfEveryPod) {
  for (const TestPod& pod : pods_) {
    const auto probe = nodes_[pod.node]->datapath->Probe(pod.id);
    ASSERT_TRUE(probe) << probe.error().ToString();
    EXPECT_TRUE(probe->ok) << pod.name << ": " << probe->detail;
  }
}

TEST_F(ProxyNetnsTest, CarriesManyConnectionsOfOnePodAtOnce) {
  constexpr std::size_t kCount = 200;
  std::vector<base::UniqueFd> clients;
  std::vector<base::UniqueFd> served;
  for (std::size_t i = 0; i < kCount; ++i) {
    const bool far = i % 2 == 0;
    clients.push_back(Connect(PodOf(client_), PodOf(far ? server_ : neighbour_).v4));
    ASSERT_TRUE(clients.back().valid());
    ASSERT_TRUE(SendText(clients.back().get(), "*" + std::to_string(1000 + i)));
    served.push_back(AcceptOne(ListenerOf(far ? server_ : neighbour_)));
    ASSERT_TRUE(served.back().valid()) << i;
    ASSERT_EQ(ReceiveText(served.back().get(), 5), "*" + std::to_string(1000 + i));
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(SendText(served[i].get(), "ok"));
    ASSERT_EQ(ReceiveText(clients[i].get(), 2), "ok");
  }
}

}  // namespace
}  // namespace weir::test
