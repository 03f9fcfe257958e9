#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>

#include "agent/base/file.h"
#include "agent/datapath/leftovers.h"
#include "tests/support/agent.h"
#include "tests/support/root_test.h"
#include "tests/support/talk.h"

namespace weir::test {
namespace {

constexpr auto kId = model::LocalId{7};

// Everything of a pod's namespace that an agent changes.
struct PodState {
  std::string rules;
  std::string rules6;
  std::string routes;
  std::string routes6;
  std::string fwmark_accept;
  friend bool operator==(const PodState&, const PodState&) = default;
};

std::ostream& operator<<(std::ostream& out, const PodState& state) {
  return out << state.rules << state.rules6 << state.routes << state.routes6 << state.fwmark_accept;
}

PodState StateOf(const Namespace& ns) {
  const auto ip = [&](std::vector<std::string> words) {
    std::vector<std::string> command{"ip", "-n", ns.name()};
    command.insert(command.end(), words.begin(), words.end());
    return RunCommand(command).value_or("failed");
  };
  return {.rules = ip({"rule"}),
          .rules6 = ip({"-6", "rule"}),
          .routes = ip({"route", "show", "table", "all"}),
          .routes6 = ip({"-6", "route", "show", "table", "all"}),
          .fwmark_accept = ns.Run([] {
            return base::ReadFile("/proc/sys/net/ipv4/tcp_fwmark_accept", 64).value_or("?");
          })};
}

// Kernel ids of what an agent attached.
struct Attached {
  std::vector<std::uint32_t> links;
  std::vector<std::uint32_t> programs;
};

Attached AttachedBy(const datapath::Datapath& datapath) {
  Attached found;
  for (const auto& hook : datapath.Hooks()) {
    EXPECT_TRUE(hook.attached) << hook.name;
    found.links.push_back(hook.link_id);
    found.programs.push_back(hook.program_id);
  }
  for (const auto& workload : datapath.Status()) {
    EXPECT_TRUE(workload.lookup_link_alive);
    found.links.push_back(workload.lookup_link_id);
  }
  return found;
}

// A dead program is freed a moment after its last user.
bool AllGone(const Attached& attached) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  do {
    const auto alive = [](int fd) { return base::UniqueFd(fd).valid(); };
    const bool links = std::ranges::any_of(
        attached.links, [&](auto id) { return alive(::bpf_link_get_fd_by_id(id)); });
    const bool programs = std::ranges::any_of(
        attached.programs, [&](auto id) { return alive(::bpf_prog_get_fd_by_id(id)); });
    if (!links && !programs) {
      return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

class LeftoversTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<Sandbox>();
    bridge_ = &sandbox_->AddBridge("node", 69);
    pod_ = sandbox_->AddPod("pod", *bridge_);
    other_ = sandbox_->AddPod("other", *bridge_);
    options_ = OptionsFor(*sandbox_);
    inside_ = std::make_unique<Greeter>(*pod_.ns, "0.0.0.0", 0);
    outside_ = std::make_unique<Greeter>(*other_.ns, "0.0.0.0", 0);
    before_ = StateOf(*pod_.ns);
  }
  void TearDown() override {
    inside_.reset();
    outside_.reset();
    sandbox_.reset();
  }

  [[nodiscard]] datapath::Enrolment Wanted(model::OnAgentDown mode) const {
    return {.id = kId,
            .name = "pod",
            .match = datapath::NetnsPath{pod_.ns->path()},
            .on_agent_down = mode,
            .ports = {}};
  }
  std::unique_ptr<EchoAgent> Start() {
    auto created = datapath::Datapath::Create(options_);
    EXPECT_TRUE(created) << created.error().ToString();
    return created ? std::make_unique<EchoAgent>(std::move(*created)) : nullptr;
  }
  // An agent in a process of its own that has enrolled the pod.
  std::unique_ptr<Child> StartChild(const datapath::Enrolment& wanted) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const base::UniqueFd read_end(ends[0]);
    base::UniqueFd write_end(ends[1]);
    auto child = std::make_unique<Child>([&] {
      auto created = datapath::Datapath::Create(options_);
      if (!created) {
        return 1;
      }
      EchoAgent agent(std::move(*created));
      const char ready = agent.Enrol(wanted) ? 'y' : 'n';
      (void)!::write(write_end.get(), &ready, 1);
      ::pause();
      return 0;
    });
    write_end.Reset();
    char ready = 0;
    EXPECT_EQ(::read(read_end.get(), &ready, 1), 1);
    EXPECT_EQ(ready, 'y');
    return child;
  }
  std::string Outbound() { return Talk(*pod_.ns, other_.v4, outside_->port()); }
  std::string Inbound() { return Talk(*other_.ns, pod_.v4, inside_->port()); }
  void ExpectIntercepted() {
    EXPECT_EQ(Outbound().substr(0, 5), "out 7");
    EXPECT_EQ(Inbound().substr(0, 4), "in 7");
  }
  void ExpectDirect() {
    EXPECT_EQ(Outbound(), "app " + pod_.v4);
    EXPECT_EQ(Inbound(), "app " + other_.v4);
  }
  void ExpectRefused() {
    EXPECT_EQ(Outbound(), Refused());
    EXPECT_EQ(Inbound(), Refused());
  }
  void ExpectNothingLeft() {
    EXPECT_EQ(StateOf(*pod_.ns), before_);
    EXPECT_FALSE(std::filesystem::exists(options_.bpffs_dir));
    ExpectDirect();
  }

  std::unique_ptr<Sandbox> sandbox_;
  Namespace* bridge_ = nullptr;
  Pod pod_;
  Pod other_;
  datapath::Options options_;
  std::unique_ptr<Greeter> inside_;
  std::unique_ptr<Greeter> outside_;
  PodState before_;
};

TEST_F(LeftoversTest, UnenrolmentLeavesNothing) {
  for (const auto mode : {model::OnAgentDown::kClosed, model::OnAgentDown::kOpen}) {
    auto agent = Start();
    ASSERT_TRUE(agent->Enrol(Wanted(mode)));
    ExpectIntercepted();
    EXPECT_NE(StateOf(*pod_.ns), before_);
    const auto attached = AttachedBy(agent->datapath());
    ASSERT_TRUE(agent->Unenrol(kId));
    ExpectDirect();
    EXPECT_EQ(StateOf(*pod_.ns), before_);
    EXPECT_TRUE(std::filesystem::is_empty(options_.bpffs_dir));
    agent.reset();
    EXPECT_TRUE(AllGone(attached));
    ExpectNothingLeft();
  }
}

TEST_F(LeftoversTest, RestoresASysctlThatWasOnBefore) {
  ASSERT_TRUE(RunCommand({"ip", "netns", "exec", pod_.ns->name(), "sh", "-c",
                          "echo 1 > /proc/sys/net/ipv4/tcp_fwmark_accept"}));
  before_ = StateOf(*pod_.ns);
  auto agent = Start();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kOpen)));
  ASSERT_TRUE(agent->Unenrol(kId));
  agent.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, AStopReleasesOpenWorkloads) {
  auto agent = Start();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kOpen)));
  const auto attached = AttachedBy(agent->datapath());
  agent->datapath().Stop();
  agent->CloseListeners();
  agent.reset();
  EXPECT_TRUE(AllGone(attached));
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, AStopLeavesClosedWorkloadsRefusedUntilUninstalled) {
  auto agent = Start();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  const auto attached = AttachedBy(agent->datapath());
  agent->datapath().Stop();
  agent->CloseListeners();
  agent.reset();
  ExpectRefused();
  EXPECT_EQ(Talk(*pod_.ns, pod_.v4, inside_->port()), "app " + pod_.v4);  // to itself
  EXPECT_EQ(StateOf(*pod_.ns), before_);                                  // only the pins are left
  ASSERT_TRUE(datapath::UninstallNode(options_));
  EXPECT_TRUE(AllGone(attached));
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, AKilledAgentLeavesClosedWorkloadsRefusedUntilOneIsBack) {
  StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
  ExpectRefused();
  auto agent = Start();
  ExpectRefused();  // nobody has enrolled it again
  const auto adopted = agent->datapath().Hooks();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  ExpectIntercepted();
  EXPECT_EQ(agent->datapath().DropUnclaimed(), 0U);
  ExpectIntercepted();
  const auto attached = AttachedBy(agent->datapath());
  ASSERT_TRUE(agent->Unenrol(kId));
  agent.reset();
  EXPECT_TRUE(AllGone(attached));
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, TakesTheHooksOfAKilledAgentOverInsteadOfAddingSome) {
  std::size_t links = 0;
  for (int run = 0; run < 3; ++run) {
    StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
    const auto list = RunCommand({"bpftool", "cgroup", "show", options_.cgroup_path});
    ASSERT_TRUE(list);
    const auto lines = static_cast<std::size_t>(std::ranges::count(*list, '\n'));
    EXPECT_GT(lines, 0U);
    EXPECT_EQ(lines, run == 0 ? lines : links);
    links = lines;
  }
  ASSERT_TRUE(datapath::UninstallNode(options_));
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, ForgetsClosedWorkloadsThatNobodyEnrolsAgain) {
  StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
  auto agent = Start();
  ExpectRefused();
  EXPECT_EQ(agent->datapath().DropUnclaimed(), 1U);
  ExpectDirect();
  EXPECT_EQ(StateOf(*pod_.ns), before_);
  agent.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, KeepsAClosedWorkloadRefusedWhenItCannotBeEnrolledAgain) {
  StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
  auto agent = Start();
  ASSERT_TRUE(RunCommand({"ip", "-n", pod_.ns->name(), "link", "set", "lo", "down"}));
  const auto failed = agent->Enrol(Wanted(model::OnAgentDown::kClosed));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), base::ErrorCode::kUnavailable);
  EXPECT_FALSE(failed.error().remedy().empty());
  ASSERT_TRUE(RunCommand({"ip", "-n", pod_.ns->name(), "link", "set", "lo", "up"}));
  ExpectRefused();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  ExpectIntercepted();
  ASSERT_TRUE(agent->Unenrol(kId));
}

TEST_F(LeftoversTest, AFailedEnrolmentLeavesNothing) {
  auto agent = Start();
  ASSERT_TRUE(RunCommand({"ip", "-n", pod_.ns->name(), "link", "set", "lo", "down"}));
  const PodState down = StateOf(*pod_.ns);
  EXPECT_FALSE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  EXPECT_EQ(StateOf(*pod_.ns), down);
  EXPECT_TRUE(std::filesystem::is_empty(options_.bpffs_dir));
  EXPECT_EQ(Outbound(), "app " + pod_.v4);
}

TEST_F(LeftoversTest, AKilledAgentReleasesOpenWorkloads) {
  StartChild(Wanted(model::OnAgentDown::kOpen))->Kill();
  ExpectDirect();
  ASSERT_TRUE(datapath::UninstallNode(options_));
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, ClearsWhatAKilledAgentLeftOfAPodThatDied) {
  StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
  inside_.reset();
  sandbox_->RemoveNamespace(*pod_.ns);
  // The namespace ends a moment later, and the pinned link with it.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  std::size_t lookups = 1;
  while (lookups > 0 && std::chrono::steady_clock::now() < deadline) {
    auto agent = Start();
    lookups = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.bpffs_dir)) {
      lookups += entry.path().filename().string().starts_with("lookup_") ? 1 : 0;
    }
  }
  EXPECT_EQ(lookups, 0U);
  ASSERT_TRUE(datapath::UninstallNode(options_));
  EXPECT_FALSE(std::filesystem::exists(options_.bpffs_dir));
}

// Other tests may have agents of their own on this machine: only what is of this one counts.
std::vector<datapath::Leftover> Of(const datapath::Options& options, const Namespace& ns,
                                   const std::vector<std::uint32_t>& links,
                                   const datapath::Leftovers& found) {
  const auto inode = std::filesystem::path(ns.path());
  struct stat status{};
  EXPECT_EQ(::stat(inode.c_str(), &status), 0);
  std::vector<datapath::Leftover> own;
  for (const auto& item : found.items) {
    using Kind = datapath::Leftover::Kind;
    if ((item.kind == Kind::kPin && item.name.find(options.bpffs_dir + "/") != std::string::npos) ||
        (item.kind == Kind::kNamespace && item.id == status.st_ino) ||
        (item.kind == Kind::kLink &&
         std::ranges::find(links, static_cast<std::uint32_t>(item.id)) != links.end())) {
      own.push_back(item);
    }
  }
  return own;
}

TEST_F(LeftoversTest, CleansWhatAnotherInstanceLeftAndNothingThatHasAnOwner) {
  datapath::Options observer = options_;
  observer.bpffs_dir = sandbox_->bpffs() + "/observer";
  const auto look = [&](const datapath::Options& options, const Attached& attached) {
    const auto found = datapath::FindLeftovers(options);
    EXPECT_TRUE(found) << found.error().ToString();
    EXPECT_TRUE(found->complete);
    return Of(options_, *pod_.ns, attached.links, *found);
  };
  auto agent = Start();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  const auto running = AttachedBy(agent->datapath());
  EXPECT_TRUE(look(observer, running).empty());
  agent.reset();

  StartChild(Wanted(model::OnAgentDown::kClosed))->Kill();
  ExpectRefused();
  // Its own agent may come back, so they are not left over for that one.
  EXPECT_TRUE(look(options_, running).empty());
  const auto left = look(observer, running);
  const auto count = [&](datapath::Leftover::Kind kind) {
    return std::ranges::count(left, kind, &datapath::Leftover::kind);
  };
  EXPECT_GE(count(datapath::Leftover::Kind::kPin), 7);  // hooks, the lookup, two maps
  EXPECT_EQ(count(datapath::Leftover::Kind::kNamespace), 1);
  const auto result = datapath::CheckLeftovers(observer);
  EXPECT_EQ(result.outcome, datapath::CheckOutcome::kWarn) << result.fact;
  EXPECT_NE(result.fact.find("without owner"), std::string::npos) << result.fact;
  EXPECT_EQ(result.remedy, "sudo weir check --clean-leftovers");

  const auto removed = datapath::CleanLeftovers(observer, left);
  ASSERT_TRUE(removed) << removed.error().ToString();
  EXPECT_EQ(removed->size(), left.size());
  ExpectNothingLeft();
}

TEST_F(LeftoversTest, FindsTheRoutingOfAKilledAgentThatLeftNothingElse) {
  StartChild(Wanted(model::OnAgentDown::kOpen))->Kill();
  const auto found = datapath::FindLeftovers(options_);
  ASSERT_TRUE(found) << found.error().ToString();
  const auto left = Of(options_, *pod_.ns, {}, *found);
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].kind, datapath::Leftover::Kind::kNamespace);
  ASSERT_TRUE(datapath::CleanLeftovers(options_, left));
  EXPECT_EQ(StateOf(*pod_.ns), before_);
}

TEST_F(LeftoversTest, RefusesASecondAgentOnTheSamePins) {
  auto agent = Start();
  const auto second = datapath::Datapath::Create(options_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::ErrorCode::kAlreadyExists);
  const auto uninstalled = datapath::UninstallNode(options_);
  ASSERT_FALSE(uninstalled);
  EXPECT_EQ(uninstalled.error().code(), base::ErrorCode::kAlreadyExists);
}

TEST_F(LeftoversTest, TwoAgentsShareAMachineWithoutTouchingEachOther) {
  auto agent = Start();
  ASSERT_TRUE(agent->Enrol(Wanted(model::OnAgentDown::kClosed)));
  const PodState enrolled = StateOf(*pod_.ns);
  auto options = OptionsFor(*sandbox_, "second");
  auto created = datapath::Datapath::Create(options);
  ASSERT_TRUE(created) << created.error().ToString();
  auto second = std::make_unique<EchoAgent>(std::move(*created));
  const auto stolen = second->Enrol(Wanted(model::OnAgentDown::kClosed));
  ASSERT_FALSE(stolen);
  EXPECT_EQ(stolen.error().code(), base::ErrorCode::kAlreadyExists);
  auto wanted = Wanted(model::OnAgentDown::kClosed);
  wanted.match = datapath::NetnsPath{other_.ns->path()};
  ASSERT_TRUE(second->Enrol(wanted));
  second.reset();
  ASSERT_TRUE(datapath::UninstallNode(options));
  EXPECT_EQ(StateOf(*pod_.ns), enrolled);
  ExpectIntercepted();
}

TEST_F(LeftoversTest, NamesWhatIsMissing) {
  options_.bpffs_dir = sandbox_->directory() + "/plain";
  auto created = datapath::Datapath::Create(options_);
  ASSERT_FALSE(created);
  EXPECT_NE(created.error().message().find("BPF file system"), std::string::npos);
  EXPECT_FALSE(created.error().remedy().empty());
  options_ = OptionsFor(*sandbox_);
  options_.cgroup_path = sandbox_->cgroup() + "/missing";
  created = datapath::Datapath::Create(options_);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code(), base::ErrorCode::kNotFound);
  options_.cgroup_path = "/tmp";
  created = datapath::Datapath::Create(options_);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code(), base::ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir::test
