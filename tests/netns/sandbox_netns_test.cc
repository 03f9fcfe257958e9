#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/root_test.h"
#include "tests/support/sandbox.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

class SandboxTest : public RootTest {};

TEST_F(SandboxTest, ConnectsPodsOfOneBridge) {
  Sandbox sandbox;
  Namespace& bridge = sandbox.AddBridge("node", 77);
  const Pod client = sandbox.AddPod("client", bridge);
  const Pod server = sandbox.AddPod("server", bridge);
  for (const auto& address : {server.v4, server.v6}) {
    const auto listener = server.ns->Run([&] { return Listen(address, 0); });
    auto dialled = client.ns->Run([&] { return Dial(address, PortOf(listener.get())); });
    ASSERT_TRUE(dialled) << dialled.error().ToString();
    const auto accepted = AcceptOne(listener.get());
    ASSERT_TRUE(accepted.valid());
    EXPECT_TRUE(SendAll(accepted.get(), "hello"));
    EXPECT_EQ(ReadAll(dialled->get(), 5), "hello");
  }
  EXPECT_NE(client.ns->Cookie(), server.ns->Cookie());
}

TEST_F(SandboxTest, LeavesNothingBehind) {
  std::string directory;
  std::string cgroup;
  std::string ns;
  {
    Sandbox sandbox;
    directory = sandbox.directory();
    cgroup = sandbox.cgroup();
    ns = sandbox.AddNamespace("one").path();
    sandbox.AddCgroup("unit");
    EXPECT_TRUE(std::filesystem::exists(ns));
  }
  for (const auto& path : {directory, cgroup, ns}) {
    EXPECT_FALSE(std::filesystem::exists(path)) << path;
  }
}

TEST_F(SandboxTest, SweepsWhatAKilledProcessLeft) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  Child child([&] {
    Sandbox sandbox;
    const std::string path = sandbox.AddNamespace("left").path();
    (void)!::write(ends[1], path.data(), path.size());
    ::pause();
    return 0;
  });
  std::array<char, 256> text{};
  ASSERT_GT(::read(ends[0], text.data(), text.size() - 1), 0);
  child.Kill();
  EXPECT_TRUE(std::filesystem::exists(text.data()));
  const Sandbox next;
  EXPECT_FALSE(std::filesystem::exists(text.data()));
}

}  // namespace
}  // namespace weir::test
