#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>

#include "agent/io/socket.h"
#include "tests/support/agent.h"
#include "tests/support/root_test.h"
#include "tests/support/talk.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

constexpr auto kId = model::LocalId{7};
constexpr std::uint16_t kRemotePort = 5432;

// One enrolled pod and one beside it that is not, on one bridge.
class InterceptTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<Sandbox>();
    bridge_ = &sandbox_->AddBridge("node", 66);
    pod_ = sandbox_->AddPod("pod", *bridge_);
    other_ = sandbox_->AddPod("other", *bridge_);
    auto created = datapath::Datapath::Create(OptionsFor(*sandbox_));
    ASSERT_TRUE(created) << created.error().ToString();
    agent_ = std::make_unique<EchoAgent>(std::move(*created));
    EnrolPod();
  }
  void TearDown() override {
    agent_.reset();
    sandbox_.reset();
  }

  void EnrolPod(model::OnAgentDown mode = model::OnAgentDown::kClosed) {
    const auto enrolled = agent_->Enrol({.id = kId,
                                         .name = "pod",
                                         .match = datapath::NetnsPath{pod_.ns->path()},
                                         .on_agent_down = mode,
                                         .ports = {}});
    ASSERT_TRUE(enrolled) << enrolled.error().ToString();
  }

  [[nodiscard]] std::uint64_t Counter(const std::string& hook, const std::string& reason) {
    for (const auto& counter : agent_->datapath().Counters()) {
      if (counter.hook == hook && counter.reason == reason) {
        return counter.value;
      }
    }
    return ~0ULL;
  }

  std::unique_ptr<Sandbox> sandbox_;
  Namespace* bridge_ = nullptr;
  Pod pod_;
  Pod other_;
  std::unique_ptr<EchoAgent> agent_;
};

std::string OwnName() {
  std::string name;
  std::ifstream("/proc/self/comm") >> name;
  return name;
}

TEST_F(InterceptTest, LeadsIpv4AndIpv6ToAWorkerWithTheOriginalDestination) {
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, kRemotePort), "out 7 " + other_.v4 + ":5432 " + OwnName());
  EXPECT_EQ(Talk(*pod_.ns, other_.v6, kRemotePort), "out 7 [" + other_.v6 + "]:5432 " + OwnName());
}

TEST_F(InterceptTest, LeadsMappedSocketsToAWorker) {
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, kRemotePort, {.mapped = true, .source = {}, .device = {}}),
            "out 7 " + other_.v4 + ":5432 " + OwnName());
}

TEST_F(InterceptTest, LeadsASocketThatChoseItsSourceToAWorker) {
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, kRemotePort, {.source = pod_.v4, .device = {}}),
            "out 7 " + other_.v4 + ":5432 " + OwnName());
}

TEST_F(InterceptTest, ShowsTheApplicationWhatItAskedFor) {
  for (const bool mapped : {false, true}) {
    auto fd = pod_.ns->Run([&] {
      return Dial(other_.v4, kRemotePort, {.mapped = mapped, .source = {}, .device = {}});
    });
    ASSERT_TRUE(fd) << fd.error().ToString();
    sockaddr_storage raw{};
    socklen_t length = sizeof(raw);
    ASSERT_EQ(::getpeername(fd->get(), reinterpret_cast<sockaddr*>(&raw), &length), 0);
    EXPECT_EQ(raw.ss_family, mapped ? AF_INET6 : AF_INET);
    const auto peer = base::RemoteEndpoint(fd->get());
    ASSERT_TRUE(peer);
    EXPECT_EQ(peer->ToString(), other_.v4 + ":5432");
  }
  auto fd = pod_.ns->Run([&] { return Dial(other_.v6, kRemotePort); });
  ASSERT_TRUE(fd);
  EXPECT_EQ(base::RemoteEndpoint(fd->get())->ToString(), "[" + other_.v6 + "]:5432");
}

TEST_F(InterceptTest, ForgetsAnEarlierDestinationWhenASocketConnectsAgain) {
  auto fd = pod_.ns->Run([&] { return Dial(other_.v4, kRemotePort); });
  ASSERT_TRUE(fd);
  (void)ReadAll(fd->get());
  const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
  ASSERT_EQ(::connect(fd->get(), &none, sizeof(none)), 0);
  const auto raw = base::ToSockaddr(*base::Endpoint::Parse(other_.v4 + ":99"));
  ASSERT_EQ(::connect(fd->get(), raw.get(), raw.length), 0);
  EXPECT_EQ(ReadAll(fd->get()), "out 7 " + other_.v4 + ":99 " + OwnName());
}

TEST_F(InterceptTest, IgnoresAMarkThatAnApplicationSets) {
  const datapath::Options options;
  EXPECT_EQ(
      Talk(*pod_.ns, other_.v4, kRemotePort, {.source = {}, .mark = options.fwmark, .device = {}}),
      "out 7 " + other_.v4 + ":5432 " + OwnName());
}

TEST_F(InterceptTest, LeavesLoopbackAndItselfAlone) {
  const Greeter v4(*pod_.ns, "0.0.0.0", 0);
  EXPECT_EQ(Talk(*pod_.ns, "127.0.0.1", v4.port()), "app 127.0.0.1");
  EXPECT_EQ(Talk(*pod_.ns, "0.0.0.0", v4.port()), "app 127.0.0.1");
  EXPECT_EQ(Talk(*pod_.ns, pod_.v4, v4.port()), "app " + pod_.v4);
  const Greeter v6(*pod_.ns, "::", 0);
  EXPECT_EQ(Talk(*pod_.ns, "::1", v6.port()), "app ::1");
  EXPECT_EQ(Talk(*pod_.ns, pod_.v6, v6.port()), "app " + pod_.v6);
  EXPECT_EQ(agent_->accepted(), 0U);
}

TEST_F(InterceptTest, LeavesASocketThatIsBoundToADeviceAlone) {
  const Greeter server(*other_.ns, other_.v4, 0);
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, server.port(), {.source = {}, .device = "eth0"}),
            "app " + pod_.v4);
  EXPECT_EQ(Counter("connect", "device-bound"), 1U);
}

TEST_F(InterceptTest, LeavesUdpAlone) {
  const auto receiver = other_.ns->Run([&] {
    base::UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto raw = base::ToSockaddr(*base::Endpoint::Parse(other_.v4 + ":0"));
    EXPECT_EQ(::bind(fd.get(), raw.get(), raw.length), 0);
    return fd;
  });
  const auto target = base::LocalEndpoint(receiver.get());
  ASSERT_TRUE(target);
  pod_.ns->Run([&] {
    const base::UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto raw = base::ToSockaddr(*target);
    EXPECT_EQ(::connect(fd.get(), raw.get(), raw.length), 0);
    EXPECT_EQ(::send(fd.get(), "x", 1, 0), 1);
    EXPECT_EQ(base::RemoteEndpoint(fd.get())->ToString(), target->ToString());
  });
  char byte = 0;
  pollfd wait{.fd = receiver.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&wait, 1, 5000), 1);
  EXPECT_EQ(::recv(receiver.get(), &byte, 1, 0), 1);
}

TEST_F(InterceptTest, LeavesWhatIsNotEnrolledAlone) {
  const Greeter server(*other_.ns, other_.v4, 0);
  Namespace& bridge = sandbox_->AddBridge("far", 67);
  const Pod stranger = sandbox_->AddPod("stranger", bridge);
  const Greeter far(*stranger.ns, stranger.v4, 0);
  EXPECT_EQ(bridge.Run([&] { return Dial(stranger.v4, far.port()).has_value(); }), true);
  EXPECT_EQ(Talk(*other_.ns, other_.v4, server.port()), "app " + other_.v4);
  EXPECT_EQ(agent_->accepted(), 0U);
}

TEST_F(InterceptTest, TakesInboundConnectionsOnEveryPortSomebodyListensOn) {
  const Greeter wildcard(*pod_.ns, "0.0.0.0", 0);
  const Greeter exact(*pod_.ns, pod_.v4, 0);
  const Greeter v6(*pod_.ns, pod_.v6, 0);
  const Greeter dual(*pod_.ns, "::", 0, {.dual_stack = true});
  const auto at = [](const std::string& address, std::uint16_t port) {
    return address + ":" + std::to_string(port);
  };
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, wildcard.port()),
            "in 7 " + other_.v4 + " " + at(pod_.v4, wildcard.port()));
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, exact.port()),
            "in 7 " + other_.v4 + " " + at(pod_.v4, exact.port()));
  EXPECT_EQ(Talk(*other_.ns, pod_.v6, v6.port()),
            "in 7 " + other_.v6 + " " + at("[" + pod_.v6 + "]", v6.port()));
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, dual.port()),
            "in 7 " + other_.v4 + " " + at(pod_.v4, dual.port()));
  EXPECT_EQ(Talk(*other_.ns, pod_.v6, dual.port()),
            "in 7 " + other_.v6 + " " + at("[" + pod_.v6 + "]", dual.port()));
}

TEST_F(InterceptTest, RefusesAPortThatNobodyListensOn) {
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, 4321), Refused());
  std::uint16_t port = 0;
  {
    const Greeter first(*pod_.ns, "0.0.0.0", 0, {.reuse_port = true});
    port = first.port();
    {
      const Greeter second(*pod_.ns, "0.0.0.0", port, {.reuse_port = true});
      EXPECT_EQ(Talk(*other_.ns, pod_.v4, port).substr(0, 4), "in 7");
    }
    EXPECT_EQ(Talk(*other_.ns, pod_.v4, port).substr(0, 4), "in 7");
  }
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, port), Refused());
  const Greeter loopback(*pod_.ns, "127.0.0.1", 0);
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, loopback.port()), Refused());
}

TEST_F(InterceptTest, KnowsAListeningSocketThatWasNeverBound) {
  const auto fd = pod_.ns->Run([] {
    base::UniqueFd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::listen(made.get(), 8), 0);
    return made;
  });
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, PortOf(fd.get())).substr(0, 4), "in 7");
}

TEST_F(InterceptTest, KnowsListenersThatAreOlderThanTheEnrolment) {
  ASSERT_TRUE(agent_->Unenrol(kId));
  const Greeter first(*pod_.ns, "0.0.0.0", 0, {.reuse_port = true});
  {
    const Greeter second(*pod_.ns, "0.0.0.0", first.port(), {.reuse_port = true});
    EXPECT_EQ(Talk(*other_.ns, pod_.v4, first.port()), "app " + other_.v4);
    EnrolPod();
    EXPECT_EQ(Talk(*other_.ns, pod_.v4, first.port()).substr(0, 4), "in 7");
    EXPECT_EQ(agent_->datapath().Status()[0].listening_ports, 2U);
  }
  EXPECT_EQ(agent_->datapath().Status()[0].listening_ports, 1U);
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, first.port()).substr(0, 4), "in 7");
}

TEST_F(InterceptTest, FindsListenersThatBeganOutsideOfTheCgroupBySweeping) {
  // A process outside of the hooks' cgroup opens the listener inside the pod.
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  Child child([&] {
    const std::string parent = sandbox_->cgroup() + "/../cgroup.procs";
    std::ofstream(parent) << "0" << std::flush;
    const auto listener = pod_.ns->Run([] { return Listen("0.0.0.0", 0); });
    const std::uint16_t port = PortOf(listener.get());
    (void)!::write(ends[1], &port, sizeof(port));
    ::pause();
    return 0;
  });
  std::uint16_t port = 0;
  ASSERT_EQ(::read(ends[0], &port, sizeof(port)), static_cast<ssize_t>(sizeof(port)));
  EXPECT_EQ(agent_->datapath().Sweep().size(), 0U);
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, port).substr(0, 4), "in 7");
  child.Kill();
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, port), Refused());
}

TEST_F(InterceptTest, KeepsIpv4AndIpv6ApartInANarrowPortRange) {
  pod_.ns->Run([] { std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "40000 40003"; });
  // All ports of the range in both families at once, each with a destination of its own.
  std::vector<std::pair<base::UniqueFd, std::string>> open;
  for (unsigned i = 0; i < 4; ++i) {
    for (const bool v6 : {false, true}) {
      const auto port = static_cast<std::uint16_t>(6000 + i);
      auto fd = pod_.ns->Run([&] { return Dial(v6 ? other_.v6 : other_.v4, port); });
      ASSERT_TRUE(fd) << fd.error().ToString();
      open.emplace_back(std::move(*fd),
                        (v6 ? "[" + other_.v6 + "]" : other_.v4) + ":" + std::to_string(port));
    }
  }
  for (const auto& [fd, destination] : open) {
    EXPECT_EQ(ReadAll(fd.get()), "out 7 " + destination + " " + OwnName());
  }
}

TEST_F(InterceptTest, ResetsACallToAListenerItself) {
  const auto sockets = pod_.ns->Run([&] {
    // Two workers' listeners of two kinds and families are at the first free ports.
    std::vector<std::string> answers;
    for (std::uint16_t port = 15001; port < 15009; ++port) {
      answers.push_back(Talk(*pod_.ns, "127.0.0.1", port).substr(0, 5));
    }
    return answers;
  });
  EXPECT_EQ(std::ranges::count(sockets, "reset"), 2);  // outbound ones: nobody's connection
}

TEST_F(InterceptTest, AnswersASelfProbeOnlyWhileAWorkerAccepts) {
  const auto alive = agent_->datapath().Probe(kId);
  ASSERT_TRUE(alive);
  EXPECT_TRUE(alive->ok) << alive->detail;
  const auto status = agent_->datapath().Status();
  ASSERT_EQ(status.size(), 1U);
  EXPECT_EQ(status[0].listeners_expected, 8U);  // 2 workers, 2 kinds, 2 families
  EXPECT_EQ(status[0].listeners_alive, 8U);
  EXPECT_TRUE(status[0].lookup_link_alive);
  agent_->CloseListeners();
  const auto dead = agent_->datapath().Probe(kId);
  ASSERT_TRUE(dead);
  EXPECT_FALSE(dead->ok);
  EXPECT_EQ(agent_->datapath().Status()[0].listeners_alive, 0U);
}

TEST_F(InterceptTest, RefusesBothDirectionsWhenTheListenersOfAClosedWorkloadAreGone) {
  const Greeter inside(*pod_.ns, "0.0.0.0", 0);
  const Greeter outside(*other_.ns, "0.0.0.0", 0);
  agent_->CloseListeners();
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, outside.port()), Refused());
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, inside.port()), Refused());
  EXPECT_EQ(Talk(*pod_.ns, pod_.v4, inside.port()), "app " + pod_.v4);  // to itself
}

TEST_F(InterceptTest, LetsBothDirectionsPassWhenTheListenersOfAnOpenWorkloadAreGone) {
  const Greeter inside(*pod_.ns, "0.0.0.0", 0);
  const Greeter outside(*other_.ns, "0.0.0.0", 0);
  ASSERT_TRUE(agent_->datapath().SetOnAgentDown(kId, model::OnAgentDown::kOpen));
  agent_->CloseListeners();
  EXPECT_EQ(Talk(*pod_.ns, other_.v4, outside.port()), "app " + pod_.v4);
  EXPECT_EQ(Talk(*other_.ns, pod_.v4, inside.port()), "app " + other_.v4);
}

TEST_F(InterceptTest, CountsConnectionsThatAreOlderThanTheEnrolment) {
  ASSERT_TRUE(agent_->Unenrol(kId));
  const auto listener = other_.ns->Run([&] { return Listen(other_.v4, 0); });
  auto older = pod_.ns->Run([&] { return Dial(other_.v4, PortOf(listener.get())); });
  ASSERT_TRUE(older);
  const auto accepted = AcceptOne(listener.get());
  EnrolPod();
  const auto found = agent_->datapath().Preexisting();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].count, 1U);
  older->Reset();
  EXPECT_EQ(ReadAll(accepted.get()), "");
}

TEST_F(InterceptTest, RefusesASecondEnrolmentOfANamespace) {
  const auto again = agent_->Enrol({.id = model::LocalId{8},
                                    .name = "again",
                                    .match = datapath::NetnsPath{pod_.ns->path()},
                                    .ports = {}});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), base::ErrorCode::kAlreadyExists);
  EXPECT_TRUE(agent_->datapath().Probe(kId)->ok);
  const auto missing = agent_->Enrol({.id = model::LocalId{9},
                                      .name = "missing",
                                      .match = datapath::NetnsPath{"/run/netns/weir-missing"},
                                      .ports = {}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), base::ErrorCode::kNotFound);
}

// Names of the bridge's ports, until `gone` is not among them or some seconds have passed.
bool PortVanishes(const Namespace& bridge, const std::string& gone, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  do {
    const auto links = RunCommand({"ip", "-n", bridge.name(), "-o", "link"});
    if (links && links->find(gone + "@") == std::string::npos) {
      return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

TEST_F(InterceptTest, ReportsANamespaceThatIsGoneAndFreesIt) {
  // The pod's end of the veth pair lives as long as its namespace.
  sandbox_->RemoveNamespace(*pod_.ns);
  const auto gone = agent_->datapath().Sweep();
  ASSERT_EQ(gone.size(), 1U);
  EXPECT_EQ(gone[0], kId);
  EXPECT_FALSE(PortVanishes(*bridge_, "veth2", std::chrono::seconds(0)));
  ASSERT_TRUE(agent_->Unenrol(kId));
  EXPECT_TRUE(PortVanishes(*bridge_, "veth2", std::chrono::seconds(5)));
}

}  // namespace
}  // namespace weir::test
