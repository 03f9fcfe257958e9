#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "agent/base/file.h"
#include "agent/datapath/go_binary.h"
#include "tests/support/agent.h"
#include "tests/support/program.h"
#include "tests/support/root_test.h"

namespace weir::test {
namespace {

constexpr auto kId = model::LocalId{7};
constexpr auto kOther = model::LocalId{8};
constexpr unsigned kScanSweeps = 60;
constexpr std::uint64_t kGoBase = 0x400000;
constexpr unsigned kBreakpoint = 0xcc;

constexpr char kSource[] = R"(package main

import (
	"fmt"
	"net"
	"net/http"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("listens")
	http.HandleFunc("/", func(http.ResponseWriter, *http.Request) { http.Get("http://127.0.0.1:1/") })
	panic(http.Serve(listener, nil))
}
)";

std::string FindGo() {
  const char* variable = std::getenv("PATH");
  std::istringstream directories(std::string(variable == nullptr ? "" : variable) +
                                 ":/usr/local/go/bin");
  for (std::string directory; std::getline(directories, directory, ':');) {
    if (::access((directory + "/go").c_str(), X_OK) == 0) {
      return directory + "/go";
    }
  }
  return {};
}

// Probes that this process holds now.
unsigned ProbesHeld() {
  unsigned count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo", error)) {
    const auto text = base::ReadFile(entry.path().string(), 4096);
    count += text && text->find("link_type:\tperf") != std::string::npos ? 1 : 0;
  }
  return count;
}

// The first byte of a function in the memory of a process that runs the file at `path`, whose
// segments are where Go's linker puts those of programs that do not move.
unsigned FirstByteOf(pid_t pid, const std::string& path,
                     std::uint64_t datapath::GoHttpFunctions::* function) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto functions = datapath::FindGoHttpFunctions(datapath::FileSource(file.get()));
  EXPECT_TRUE(functions.has_value());
  const base::UniqueFd memory(
      ::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  std::uint8_t byte = 0;
  const auto address = static_cast<off_t>(kGoBase + (functions ? *functions.*function : 0));
  EXPECT_EQ(::pread(memory.get(), &byte, sizeof(byte), address), 1);
  return byte;
}

// Real Go programs in two pods.
class HookedRuntimesTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    go_ = FindGo();
    if (go_.empty()) {  // runtime_hooks_e2e brings one along
      GTEST_SKIP() << "needs go";
    }
    sandbox_ = std::make_unique<Sandbox>();
    pod_ = &sandbox_->AddNamespace("pod");
    other_ = &sandbox_->AddNamespace("other");
    auto created = datapath::Datapath::Create(OptionsFor(*sandbox_));
    ASSERT_TRUE(created) << created.error().ToString();
    agent_ = std::make_unique<EchoAgent>(std::move(*created));
  }
  void TearDown() override {
    programs_.clear();
    agent_.reset();
    EXPECT_EQ(ProbesHeld(), 0U);
    sandbox_.reset();
  }

  // Builds the program with more of `go build`'s flags; its path.
  std::string Build(const std::string& name, const std::vector<std::string>& flags = {}) {
    const std::string source = sandbox_->directory() + "/main.go";
    std::ofstream(source) << kSource;
    const char* home = std::getenv("HOME");
    const std::string path = sandbox_->directory() + "/" + name;
    std::vector<std::string> words = {"/usr/bin/env",
                                      std::string("HOME=") + (home == nullptr ? "/root" : home),
                                      "GO111MODULE=off",
                                      "CGO_ENABLED=0",
                                      go_,
                                      "build",
                                      "-o",
                                      path};
    words.insert(words.end(), flags.begin(), flags.end());
    words.push_back(source);
    const auto built = RunCommand(words);
    EXPECT_TRUE(built) << built.error().ToString();
    return path;
  }
  Program& Start(const Namespace& where, const std::string& path) {
    programs_.push_back(
        where.Run([&] { return std::make_unique<Program>(std::vector<std::string>{path}); }));
    EXPECT_TRUE(programs_.back()->WaitForOutput("listens"));
    return *programs_.back();
  }
  void Enrol(model::LocalId id, const Namespace& where) {
    const auto enrolled = agent_->Enrol({.id = id,
                                         .name = where.name(),
                                         .match = datapath::NetnsPath{where.path()},
                                         .on_agent_down = model::OnAgentDown::kOpen,
                                         .ports = {},
                                         .infer_parents = true,
                                         .runtime_hooks = {.go = true, .node = false}});
    ASSERT_TRUE(enrolled) << enrolled.error().ToString();
  }

  std::string go_;
  std::unique_ptr<Sandbox> sandbox_;
  Namespace* pod_ = nullptr;
  Namespace* other_ = nullptr;
  std::unique_ptr<EchoAgent> agent_;
  std::vector<std::unique_ptr<Program>> programs_;
};

TEST_F(HookedRuntimesTest, ProbesProgramsThatRunWhenTheirWorkloadIsEnrolled) {
  Start(*pod_, Build("plain"));
  Enrol(kId, *pod_);
  EXPECT_EQ(ProbesHeld(), 2U);
}

TEST_F(HookedRuntimesTest, LeavesTheCodeAsItWas) {
  const std::string path = Build("plain");
  const pid_t pid = Start(*pod_, path).pid();
  for (const auto function :
       {&datapath::GoHttpFunctions::round_trip, &datapath::GoHttpFunctions::write_loop}) {
    const unsigned before = FirstByteOf(pid, path, function);
    Enrol(kId, *pod_);
    EXPECT_EQ(FirstByteOf(pid, path, function), kBreakpoint);
    ASSERT_TRUE(agent_->Unenrol(kId));
    EXPECT_EQ(FirstByteOf(pid, path, function), before);
  }
  Enrol(kId, *pod_);
  agent_.reset();  // a stop
  EXPECT_NE(FirstByteOf(pid, path, &datapath::GoHttpFunctions::round_trip), kBreakpoint);
}

TEST_F(HookedRuntimesTest, FindsTheFunctionsOfStrippedAndOfMovablePrograms) {
  for (const auto& flags :
       {std::vector<std::string>{"-ldflags=-s -w"}, std::vector<std::string>{"-buildmode=pie"},
        std::vector<std::string>{"-buildmode=pie", "-ldflags=-s -w"}}) {
    Program& program = Start(*pod_, Build("other", flags));
    Enrol(kId, *pod_);
    EXPECT_EQ(ProbesHeld(), 2U) << flags.back();
    ASSERT_TRUE(agent_->Unenrol(kId));
    program.Signal(SIGKILL);
    (void)program.Wait();
  }
}

TEST_F(HookedRuntimesTest, ProbesWhatListensLaterInTheNextSweep) {
  const std::string path = Build("plain");
  Enrol(kId, *pod_);
  EXPECT_EQ(ProbesHeld(), 0U);
  Start(*pod_, path);
  (void)agent_->datapath().Sweep();
  EXPECT_EQ(ProbesHeld(), 2U);
}

TEST_F(HookedRuntimesTest, ProbesProgramsOfACgroupAndOfThoseBelow) {
  const std::string unit = sandbox_->AddCgroup("unit");
  const std::string below = sandbox_->AddCgroup("unit/below");
  const std::string path = Build("plain");
  programs_.push_back(std::make_unique<Program>(std::vector<std::string>{
      "/bin/sh", "-c", "echo $$ >" + below + "/cgroup.procs && exec " + path}));
  ASSERT_TRUE(programs_.back()->WaitForOutput("listens"));
  const auto enrolled = agent_->Enrol({.id = kId,
                                       .name = "unit",
                                       .match = datapath::CgroupPath{unit},
                                       .on_agent_down = model::OnAgentDown::kOpen,
                                       .ports = {},
                                       .infer_parents = true,
                                       .runtime_hooks = {.go = true, .node = false}});
  ASSERT_TRUE(enrolled) << enrolled.error().ToString();
  EXPECT_EQ(ProbesHeld(), 2U);
}

TEST_F(HookedRuntimesTest, LeavesProgramsOfOtherWorkloadsAlone) {
  Start(*other_, Build("plain"));
  Enrol(kId, *pod_);
  for (unsigned i = 0; i < kScanSweeps; ++i) {
    (void)agent_->datapath().Sweep();
  }
  EXPECT_EQ(ProbesHeld(), 0U);
}

TEST_F(HookedRuntimesTest, TakesProbesOutWithTheLastWorkloadThatRunsTheFile) {
  const std::string path = Build("plain");
  Start(*pod_, path);
  Start(*other_, path);
  Enrol(kId, *pod_);
  Enrol(kOther, *other_);
  EXPECT_EQ(ProbesHeld(), 2U);
  ASSERT_TRUE(agent_->Unenrol(kId));
  EXPECT_EQ(ProbesHeld(), 2U);
  ASSERT_TRUE(agent_->datapath().SetRuntimeHooks(kOther, {}));
  EXPECT_EQ(ProbesHeld(), 0U);
  ASSERT_TRUE(agent_->datapath().SetRuntimeHooks(kOther, {.go = true, .node = false}));
  EXPECT_EQ(ProbesHeld(), 2U);
}

TEST_F(HookedRuntimesTest, TakesProbesOutOfFilesThatNobodyRunsAnyMore) {
  Program& program = Start(*pod_, Build("plain"));
  Enrol(kId, *pod_);
  program.Signal(SIGKILL);
  (void)program.Wait();
  for (unsigned i = 0; i < kScanSweeps; ++i) {
    (void)agent_->datapath().Sweep();
  }
  EXPECT_EQ(ProbesHeld(), 0U);
}

}  // namespace
}  // namespace weir::test
