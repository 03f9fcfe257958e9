#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "agent/io/socket.h"
#include "tests/support/agent.h"
#include "tests/support/root_test.h"
#include "tests/support/talk.h"

namespace weir::test {
namespace {

constexpr auto kId = model::LocalId{7};

base::Endpoint At(const std::string& address, std::uint16_t port) {
  return {.address = base::IpAddress::Parse(address).value(), .port = port};
}

// The agent's own connections; nobody accepts from its listeners.
class LegsTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<Sandbox>();
    Namespace& bridge = sandbox_->AddBridge("node", 68);
    pod_ = sandbox_->AddPod("pod", bridge);
    other_ = sandbox_->AddPod("other", bridge);
    auto created = datapath::Datapath::Create(OptionsFor(*sandbox_));
    ASSERT_TRUE(created) << created.error().ToString();
    datapath_ = std::move(*created);
    Enrol();
  }
  void TearDown() override {
    datapath_.reset();
    listeners_.clear();
    sandbox_.reset();
  }
  void Enrol() {
    auto enrolled = datapath_->Enrol(
        {.id = kId, .name = "pod", .match = datapath::NetnsPath{pod_.ns->path()}, .ports = {}});
    ASSERT_TRUE(enrolled) << enrolled.error().ToString();
    listeners_ = std::move(*enrolled);
  }

  // A leg as a worker makes it, connected within the second that it has.
  base::Result<base::UniqueFd> Leg(seam::LegKind kind, const base::Endpoint& destination,
                                   const std::optional<std::string>& source = std::nullopt) {
    seam::ConnectRequest request{.from = kId,
                                 .destination = destination,
                                 .transparent_source = std::nullopt,
                                 .kind = kind,
                                 .worker = 3};
    if (source) {
      request.transparent_source = base::IpAddress::Parse(*source).value();
    }
    auto fd = datapath_->Connect(request);
    if (!fd) {
      return fd;
    }
    pollfd wait{.fd = fd->get(), .events = POLLOUT, .revents = 0};
    if (::poll(&wait, 1, 1000) != 1) {
      return base::SystemError("connect", ETIMEDOUT);
    }
    if (const int error = io::TakeSocketError(fd->get()); error != 0) {
      return base::SystemError("connect", error);
    }
    return fd;
  }
  std::string Deliver(const base::Endpoint& destination, const std::string& client) {
    auto leg = Leg(seam::LegKind::kDelivery, destination, client);
    return leg ? ReadAll(leg->get()).value_or("reset") : leg.error().ToString();
  }
  // The tuple as the other end sees it.
  static base::ConnectionTuple Received(int fd) {
    return {.local = base::RemoteEndpoint(fd).value(), .remote = base::LocalEndpoint(fd).value()};
  }
  [[nodiscard]] std::uint64_t Counter(const std::string& hook, const std::string& reason) const {
    for (const auto& counter : datapath_->Counters()) {
      if (counter.hook == hook && counter.reason == reason) {
        return counter.value;
      }
    }
    return ~0ULL;
  }

  std::unique_ptr<Sandbox> sandbox_;
  Pod pod_;
  Pod other_;
  std::unique_ptr<datapath::Datapath> datapath_;
  std::vector<std::vector<seam::Listener>> listeners_;
};

TEST_F(LegsTest, DeliversWithTheClientsAddress) {
  const Greeter v4(*pod_.ns, "0.0.0.0", 0);
  const Greeter v6(*pod_.ns, "::", 0);
  EXPECT_EQ(Deliver(At(pod_.v4, v4.port()), other_.v4), "app " + other_.v4);
  EXPECT_EQ(Deliver(At(pod_.v4, v4.port()), "198.18.99.1"), "app 198.18.99.1");
  EXPECT_EQ(Deliver(At(pod_.v6, v6.port()), other_.v6), "app " + other_.v6);
  EXPECT_EQ(Deliver(At(pod_.v6, v6.port()), "fd00:99::1"), "app fd00:99::1");
}

TEST_F(LegsTest, DeliversToAnApplicationThatListensOnLoopbackOnly) {
  const Greeter v4(*pod_.ns, "127.0.0.1", 0);
  const Greeter v6(*pod_.ns, "::1", 0);
  EXPECT_EQ(Deliver(At("127.0.0.1", v4.port()), other_.v4), "app " + other_.v4);
  EXPECT_EQ(Deliver(At("::1", v6.port()), other_.v6), "app " + other_.v6);
}

TEST_F(LegsTest, DeliversWhereReversePathsAreFilteredStrictly) {
  pod_.ns->Run([] {
    for (const char* device : {"all", "default", "lo", "eth0"}) {
      std::ofstream("/proc/sys/net/ipv4/conf/" + std::string(device) + "/rp_filter") << "1";
    }
  });
  const Greeter app(*pod_.ns, "0.0.0.0", 0);
  EXPECT_EQ(Deliver(At(pod_.v4, app.port()), other_.v4), "app " + other_.v4);
  EXPECT_EQ(Deliver(At(pod_.v4, app.port()), "198.18.99.1"), "app 198.18.99.1");
}

TEST_F(LegsTest, TakesAPortOutsideOfTheNamespacesRange) {
  const Greeter app(*pod_.ns, "0.0.0.0", 0);
  for (int i = 0; i < 20; ++i) {
    const auto leg = Leg(seam::LegKind::kDelivery, At(pod_.v4, app.port()), other_.v4);
    ASSERT_TRUE(leg) << leg.error().ToString();
    const auto port = base::LocalEndpoint(leg->get())->port;
    EXPECT_TRUE(port < 32768 || port > 60999) << port;
  }
}

// Else a client could have no more connections to one port than the first range has ports.
TEST_F(LegsTest, TakesPortsOfTheSecondRangeWhenTheFirstIsUsedUp) {
  pod_.ns->Run([] { std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "12000 63535"; });
  (void)datapath_->Sweep();  // 2,000 ports are above the range, and 1,760 below
  const Greeter app(*pod_.ns, "0.0.0.0", 0);
  std::vector<base::UniqueFd> legs;
  std::uint16_t lowest = 65535;
  for (int i = 0; i < 2050; ++i) {
    auto leg = Leg(seam::LegKind::kDelivery, At(pod_.v4, app.port()), other_.v4);
    ASSERT_TRUE(leg) << i << ": " << leg.error().ToString();
    lowest = std::min(lowest, base::LocalEndpoint(leg->get())->port);
    legs.push_back(std::move(*leg));
  }
  EXPECT_LT(lowest, 12000);
}

TEST_F(LegsTest, KeepsAwayFromTheTuplesOfLiveConnections) {
  pod_.ns->Run([] { std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "1024 65530"; });
  (void)datapath_->Sweep();  // five ports are left for legs
  const Greeter app(*pod_.ns, "0.0.0.0", 0);
  std::vector<base::UniqueFd> live;
  for (std::uint16_t port = 65531; port < 65535; ++port) {
    auto client = other_.ns->Run([&] {
      return Dial(pod_.v4, app.port(), {.source = other_.v4, .source_port = port, .device = {}});
    });
    ASSERT_TRUE(client) << client.error().ToString();  // weir's listener has it
    live.push_back(std::move(*client));
  }
  const auto leg = Leg(seam::LegKind::kDelivery, At(pod_.v4, app.port()), other_.v4);
  ASSERT_TRUE(leg) << leg.error().ToString();
  EXPECT_EQ(base::LocalEndpoint(leg->get())->port, 65535);
  EXPECT_EQ(ReadAll(leg->get()), "app " + other_.v4);
  EXPECT_GT(Counter("connect", "leg-tuple-taken"), 0U);
  // With every port taken the leg fails at once instead of hanging.
  const auto none = Leg(seam::LegKind::kDelivery, At(pod_.v4, app.port()), other_.v4);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), base::ErrorCode::kUnavailable);
  // Another client's address is another tuple.
  EXPECT_EQ(Deliver(At(pod_.v4, app.port()), "198.18.99.1"), "app 198.18.99.1");
}

TEST_F(LegsTest, AllowsAnApplicationToBindThePortOfALeg) {
  const Greeter app(*pod_.ns, "0.0.0.0", 0);
  const auto leg = Leg(seam::LegKind::kDelivery, At(pod_.v4, app.port()), other_.v4);
  ASSERT_TRUE(leg);
  const Greeter late(*pod_.ns, "0.0.0.0", base::LocalEndpoint(leg->get())->port);
  EXPECT_NE(late.port(), 0);
}

TEST_F(LegsTest, LetsItsOwnConnectionsPassItsHooks) {
  const Greeter far(*other_.ns, "0.0.0.0", 0);
  auto leg = Leg(seam::LegKind::kPassthrough, At(other_.v4, far.port()));
  ASSERT_TRUE(leg) << leg.error().ToString();
  EXPECT_EQ(ReadAll(leg->get()), "app " + pod_.v4);  // from the pod's own address
}

TEST_F(LegsTest, KnowsItsOwnConnectionsUntilTheyClose) {
  const auto far = other_.ns->Run([&] { return Listen(other_.v6, 0); });
  auto leg = Leg(seam::LegKind::kWitness, At(other_.v6, PortOf(far.get())));
  ASSERT_TRUE(leg) << leg.error().ToString();
  const auto accepted = AcceptOne(far.get());
  const auto tuple = Received(leg->get());
  const auto found = datapath_->FindOwnLeg(kId, tuple);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kind, seam::LegKind::kWitness);
  EXPECT_EQ(found->worker, 3U);
  auto turned = tuple;
  std::swap(turned.local, turned.remote);
  EXPECT_FALSE(datapath_->FindOwnLeg(kId, turned));
  io::ResetOnClose(leg->get());
  leg->Reset();
  EXPECT_FALSE(datapath_->FindOwnLeg(kId, tuple));
}

TEST_F(LegsTest, ForgetsTheDestinationOfAClientThatGaveUp) {
  auto client = pod_.ns->Run([&] { return Dial(other_.v4, 80); });
  ASSERT_TRUE(client) << client.error().ToString();
  const auto local = base::LocalEndpoint(client->get()).value();
  io::ResetOnClose(client->get());
  client->Reset();
  for (auto& listeners : listeners_) {
    for (auto& listener : listeners) {
      // Whichever it was led to: the record is gone with the client.
      EXPECT_FALSE(
          datapath_->TakeOriginalDestination(listener, {.local = listener.bound, .remote = local}));
    }
  }
}

TEST_F(LegsTest, GivesEachOriginalDestinationOnce) {
  auto client = pod_.ns->Run([&] { return Dial(other_.v4, 80); });
  ASSERT_TRUE(client) << client.error().ToString();
  const auto local = base::LocalEndpoint(client->get()).value();
  unsigned taken = 0;
  for (int round = 0; round < 2; ++round) {
    for (auto& listeners : listeners_) {
      for (auto& listener : listeners) {
        const auto original = datapath_->TakeOriginalDestination(
            listener, {.local = listener.bound, .remote = local});
        if (original) {
          ++taken;
          EXPECT_EQ(original->destination, At(other_.v4, 80));
          EXPECT_EQ(original->pid, static_cast<std::uint32_t>(::getpid()));
        }
      }
    }
  }
  EXPECT_EQ(taken, 1U);
}

TEST_F(LegsTest, LeadsADestinationAlwaysToTheSameWorker) {
  std::set<const seam::Listener*> used;
  for (int i = 0; i < 8; ++i) {
    auto client = pod_.ns->Run([&] { return Dial(other_.v4, 80); });
    ASSERT_TRUE(client);
    const auto local = base::LocalEndpoint(client->get()).value();
    for (auto& listeners : listeners_) {
      for (auto& listener : listeners) {
        if (datapath_->TakeOriginalDestination(listener,
                                               {.local = listener.bound, .remote = local})) {
          used.insert(&listener);
        }
      }
    }
  }
  EXPECT_EQ(used.size(), 1U);
}

TEST_F(LegsTest, FailsForAWorkloadThatIsNotEnrolled) {
  ASSERT_TRUE(datapath_->Unenrol(kId));
  const auto leg = Leg(seam::LegKind::kPassthrough, At(other_.v4, 80));
  ASSERT_FALSE(leg);
  EXPECT_EQ(leg.error().code(), base::ErrorCode::kNotFound);
}

}  // namespace
}  // namespace weir::test
