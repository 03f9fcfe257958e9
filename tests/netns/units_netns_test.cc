#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <memory>
#include <optional>

#include "tests/support/agent.h"
#include "tests/support/root_test.h"
#include "tests/support/talk.h"

namespace weir::test {
namespace {

constexpr auto kId = model::LocalId{7};
constexpr auto kSecondId = model::LocalId{8};

// A machine whose workloads are units: agent and units share one namespace.
class UnitsTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<Sandbox>();
    Namespace& bridge = sandbox_->AddBridge("node", 70);
    vm_ = sandbox_->AddPod("vm", bridge);
    other_ = sandbox_->AddPod("other", bridge);
    unit_ = sandbox_->AddCgroup("unit.slice") + "/web.service";
    ASSERT_EQ(::mkdir(unit_.c_str(), 0755), 0);
    second_ = sandbox_->AddCgroup("db.service");
    options_ = OptionsFor(*sandbox_);
    outside_ = std::make_unique<Greeter>(*other_.ns, "0.0.0.0", 0);
  }
  void TearDown() override {
    agent_.reset();
    outside_.reset();
    sandbox_.reset();
  }

  void Start() {
    vm_.ns->Run([&] {
      auto created = datapath::Datapath::Create(options_);
      ASSERT_TRUE(created) << created.error().ToString();
      agent_ = std::make_unique<EchoAgent>(std::move(*created));
    });
  }
  [[nodiscard]] datapath::Enrolment Wanted(model::LocalId id, const std::string& cgroup,
                                           std::vector<std::uint16_t> ports = {}) const {
    return {.id = id,
            .name = cgroup,
            .match = datapath::CgroupPath{cgroup},
            .on_agent_down = model::OnAgentDown::kClosed,
            .ports = std::move(ports)};
  }
  // Control calls are made where the agent lives.
  base::Result<void> Enrol(const datapath::Enrolment& wanted) {
    return vm_.ns->Run([&] { return agent_->Enrol(wanted); });
  }

  // What `body` returns in a process of the cgroup, inside the machine.
  std::string InCgroup(const std::string& cgroup, const std::function<std::string()>& body) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const base::UniqueFd read_end(ends[0]);
    base::UniqueFd write_end(ends[1]);
    Child child([&] {
      std::ofstream(cgroup + "/cgroup.procs") << "0" << std::flush;
      const std::string answer = vm_.ns->Run(body);
      return ::write(write_end.get(), answer.data(), answer.size()) < 0 ? 1 : 0;
    });
    write_end.Reset();
    std::array<char, 512> answer{};
    const ssize_t got = ::read(read_end.get(), answer.data(), answer.size() - 1);
    EXPECT_EQ(child.Wait(), 0);
    return got > 0 ? std::string(answer.data(), static_cast<std::size_t>(got)) : "";
  }
  std::string Outbound(const std::string& cgroup) {
    return InCgroup(cgroup, [&] { return Talk(other_.v4, outside_->port()); });
  }

  // A server that lives in a cgroup.
  struct Service {
    std::unique_ptr<Child> process;
    std::uint16_t port = 0;
  };
  Service Serve(const std::string& cgroup, const std::string& address = "0.0.0.0") {
    Service service;
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const base::UniqueFd read_end(ends[0]);
    const base::UniqueFd write_end(ends[1]);
    service.process = std::make_unique<Child>([&] {
      std::ofstream(cgroup + "/cgroup.procs") << "0" << std::flush;
      const auto listener = vm_.ns->Run([&] { return Listen(address, 0, {.dual_stack = true}); });
      const std::uint16_t port = PortOf(listener.get());
      (void)!::write(write_end.get(), &port, sizeof(port));
      const std::atomic<bool> never{false};
      Greet(listener.get(), never);
      return 0;
    });
    EXPECT_EQ(::read(read_end.get(), &service.port, sizeof(service.port)),
              static_cast<ssize_t>(sizeof(service.port)));
    return service;
  }
  std::string Inbound(const Service& service) {
    return Talk(*other_.ns, vm_.v4, service.port).substr(0, 4);
  }

  std::unique_ptr<Sandbox> sandbox_;
  Pod vm_;
  Pod other_;
  std::string unit_;
  std::string second_;
  datapath::Options options_;
  std::unique_ptr<Greeter> outside_;
  std::unique_ptr<EchoAgent> agent_;
};

TEST_F(UnitsTest, LeadsAUnitsConnectionsAndNobodyElses) {
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  ASSERT_TRUE(Enrol(Wanted(kSecondId, second_)));
  const std::string child = unit_ + "/worker";
  ASSERT_EQ(::mkdir(child.c_str(), 0755), 0);
  EXPECT_EQ(Outbound(unit_).substr(0, 5), "out 7");
  EXPECT_EQ(Outbound(child).substr(0, 5), "out 7");
  EXPECT_EQ(Outbound(second_).substr(0, 5), "out 8");
  EXPECT_EQ(Outbound(sandbox_->cgroup()), "app " + vm_.v4);
}

TEST_F(UnitsTest, LeadsASocketThatAUnitMadeWhoeverConnectsIt) {
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  // Made inside of the unit, connected after leaving it.
  EXPECT_EQ(InCgroup(unit_,
                     [&] {
                       const base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                       std::ofstream(sandbox_->cgroup() + "/cgroup.procs") << "0" << std::flush;
                       const auto raw =
                           base::ToSockaddr(base::Endpoint::Parse(other_.v4 + ":99").value());
                       return ::connect(fd.get(), raw.get(), raw.length) == 0
                                  ? ReadAll(fd.get()).value_or("reset").substr(0, 5)
                                  : std::string("refused");
                     }),
            "out 7");
}

TEST_F(UnitsTest, TakesInboundConnectionsOfAUnitsPortsOnly) {
  const Service older = Serve(unit_);
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  ASSERT_TRUE(Enrol(Wanted(kSecondId, second_)));
  const Service younger = Serve(unit_, "::");
  const Service second = Serve(second_);
  const Service stranger = Serve(sandbox_->cgroup());
  EXPECT_EQ(Inbound(older), "in 7");
  EXPECT_EQ(Inbound(younger), "in 7");
  EXPECT_EQ(Inbound(second), "in 8");
  EXPECT_EQ(Inbound(stranger), "app ");
  vm_.ns->Run([&] { (void)agent_->datapath().Sweep(); });
  vm_.ns->Run([&] { (void)agent_->datapath().Sweep(); });
  EXPECT_EQ(Inbound(older), "in 7");
  EXPECT_EQ(Inbound(stranger), "app ");
}

TEST_F(UnitsTest, TakesAPortThatIsTheUnitsWhoeverListens) {
  const Service activator = Serve(sandbox_->cgroup());
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_, {activator.port})));
  EXPECT_EQ(Inbound(activator), "in 7");
  const auto taken = Enrol(Wanted(kSecondId, second_, {activator.port}));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), base::ErrorCode::kAlreadyExists);
  EXPECT_EQ(Inbound(activator), "in 7");
}

TEST_F(UnitsTest, ProbesAUnitFromInside) {
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  const auto alive = vm_.ns->Run([&] { return agent_->datapath().Probe(kId); });
  ASSERT_TRUE(alive);
  EXPECT_TRUE(alive->ok) << alive->detail;
  agent_->CloseListeners();
  const auto dead = vm_.ns->Run([&] { return agent_->datapath().Probe(kId); });
  EXPECT_FALSE(dead->ok);
}

TEST_F(UnitsTest, ReleasesOneUnitAndKeepsTheOther) {
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  ASSERT_TRUE(Enrol(Wanted(kSecondId, second_)));
  const Service first = Serve(unit_);
  const Service second = Serve(second_);
  ASSERT_TRUE(vm_.ns->Run([&] { return agent_->Unenrol(kId); }));
  EXPECT_EQ(Outbound(unit_), "app " + vm_.v4);
  EXPECT_EQ(Inbound(first), "app ");
  EXPECT_EQ(Outbound(second_).substr(0, 5), "out 8");
  EXPECT_EQ(Inbound(second), "in 8");
}

TEST_F(UnitsTest, ReportsAUnitThatStopped) {
  Start();
  ASSERT_TRUE(Enrol(Wanted(kId, second_)));
  EXPECT_TRUE(vm_.ns->Run([&] { return agent_->datapath().Sweep(); }).empty());
  ASSERT_EQ(::rmdir(second_.c_str()), 0);
  EXPECT_EQ(vm_.ns->Run([&] { return agent_->datapath().Sweep(); }),
            std::vector<model::LocalId>{kId});
}

TEST_F(UnitsTest, KeepsClosedUnitsRefusedAfterAKillUntilUninstalled) {
  const Service server = Serve(unit_);
  const Service stranger = Serve(sandbox_->cgroup());
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  {
    Child killed([&] {
      Start();
      const char ready = Enrol(Wanted(kId, unit_)) ? 'y' : 'n';
      (void)!::write(ends[1], &ready, 1);
      ::pause();
      return 0;
    });
    char ready = 0;
    ASSERT_EQ(::read(ends[0], &ready, 1), 1);
    ASSERT_EQ(ready, 'y');
    EXPECT_EQ(Inbound(server), "in 7");
    killed.Kill();
  }
  EXPECT_EQ(Outbound(unit_), Refused());
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  EXPECT_EQ(Outbound(sandbox_->cgroup()), "app " + vm_.v4);
  EXPECT_EQ(Inbound(stranger), "app ");
  // The next agent takes over without letting anything through.
  Start();
  EXPECT_EQ(Outbound(unit_), Refused());
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  ASSERT_TRUE(Enrol(Wanted(kSecondId, second_)));  // exchanges the lookup program
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  ASSERT_TRUE(Enrol(Wanted(kId, unit_)));
  EXPECT_EQ(Outbound(unit_).substr(0, 5), "out 7");
  EXPECT_EQ(Inbound(server), "in 7");
  vm_.ns->Run([&] { agent_->datapath().Stop(); });
  agent_.reset();
  EXPECT_EQ(Outbound(unit_), Refused());
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  ASSERT_TRUE(vm_.ns->Run([&] { return datapath::UninstallNode(options_); }));
  EXPECT_EQ(Outbound(unit_), "app " + vm_.v4);
  EXPECT_EQ(Inbound(server), "app ");
}

TEST_F(UnitsTest, RefusesAnExpectedUnitFromItsBirthUntilItIsEnrolled) {
  Start();
  const auto expect = [&](std::vector<datapath::ExpectedCgroup> cgroups) {
    return vm_.ns->Run([&] { return agent_->datapath().Expect(cgroups); });
  };
  ASSERT_TRUE(expect({{.name = "late.service", .parent = {}},
                      {.name = "job", .parent = sandbox_->cgroup()},
                      {.name = "not-here-yet", .parent = sandbox_->cgroup() + "/absent"}}));
  const std::string late = sandbox_->AddCgroup("unit.slice/late.service");
  const std::string job = sandbox_->AddCgroup("job");
  const std::string same_name = sandbox_->AddCgroup("unit.slice/job");
  const Service server = Serve(late);
  EXPECT_EQ(Outbound(late), Refused());
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  EXPECT_EQ(Outbound(job), Refused());
  EXPECT_EQ(Outbound(same_name), "app " + vm_.v4) << "another parent's";
  EXPECT_EQ(Outbound(sandbox_->cgroup()), "app " + vm_.v4);
  ASSERT_TRUE(Enrol(Wanted(kId, late)));
  EXPECT_EQ(Outbound(late).substr(0, 5), "out 7");
  EXPECT_EQ(Inbound(server), "in 7");
  ASSERT_TRUE(expect({}));
  EXPECT_EQ(Outbound(job), "app " + vm_.v4) << "nobody's any more";
  EXPECT_EQ(Outbound(late).substr(0, 5), "out 7");
}

TEST_F(UnitsTest, SaysWhenAnExpectedUnitComesAndGoes) {
  Start();
  ASSERT_TRUE(vm_.ns->Run(
      [&] { return agent_->datapath().Expect({{.name = "late.service", .parent = {}}}); }));
  pollfd wait{.fd = agent_->datapath().arrivals_fd(), .events = POLLIN, .revents = 0};
  ASSERT_GE(wait.fd, 0);
  EXPECT_EQ(::poll(&wait, 1, 0), 0);
  const std::string late = sandbox_->AddCgroup("unit.slice/late.service");
  EXPECT_EQ(::poll(&wait, 1, 5000), 1);
  agent_->datapath().TakeArrivals();
  EXPECT_EQ(::poll(&wait, 1, 0), 0);
  ASSERT_EQ(::rmdir(late.c_str()), 0);
  EXPECT_EQ(::poll(&wait, 1, 5000), 1);
}

TEST_F(UnitsTest, RefusesAnExpectedUnitThatStartsWhileNoAgentRuns) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  {
    Child killed([&] {
      Start();
      const char ready = vm_.ns->Run([&] {
        return agent_->datapath().Expect({{.name = "late.service", .parent = {}}});
      })
                             ? 'y'
                             : 'n';
      (void)!::write(ends[1], &ready, 1);
      ::pause();
      return 0;
    });
    char ready = 0;
    ASSERT_EQ(::read(ends[0], &ready, 1), 1);
    ASSERT_EQ(ready, 'y');
    killed.Kill();
  }
  const std::string late = sandbox_->AddCgroup("unit.slice/late.service");
  const Service server = Serve(late);
  EXPECT_EQ(Outbound(late), Refused());
  EXPECT_EQ(Inbound(server), Refused().substr(0, 4));
  Start();
  EXPECT_EQ(Outbound(late), Refused());
  ASSERT_TRUE(Enrol(Wanted(kId, late)));
  EXPECT_EQ(Outbound(late).substr(0, 5), "out 7");
  EXPECT_EQ(Inbound(server), "in 7");
  vm_.ns->Run([&] { agent_->datapath().Stop(); });
  agent_.reset();
  ASSERT_TRUE(vm_.ns->Run([&] { return datapath::UninstallNode(options_); }));
  EXPECT_EQ(Outbound(late), "app " + vm_.v4);
}

}  // namespace
}  // namespace weir::test
