#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "runtime.skel.h"
#include "tests/bpf/parent_rig.h"

namespace weir::test {
namespace {

// The marks of a Node.js program, set by the test itself.
class NodeMarkBpfTest : public ParentTest {
 protected:
  void SetUp() override {
    ParentTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    runtime_ = runtime__open();
    ASSERT_NE(runtime_, nullptr);
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, runtime_->obj) {
      const bpf_map* same = ::bpf_object__find_map_by_name(object(), ::bpf_map__name(map));
      if (same != nullptr) {  // else the object's own variables
        ASSERT_EQ(::bpf_map__reuse_fd(map, ::bpf_map__fd(same)), 0);
      }
    }
    ASSERT_EQ(runtime__load(runtime_), 0);
    const base::UniqueFd cgroup(::open(sandbox().cgroup().c_str(), O_RDONLY | O_CLOEXEC));
    link_ = ::bpf_program__attach_cgroup(runtime_->progs.weir_setsockopt, cgroup.get());
    ASSERT_NE(link_, nullptr);
    Enrol(WEIR_WORKLOAD_INFER | WEIR_WORKLOAD_NODE);
  }
  void TearDown() override {
    ::bpf_link__destroy(link_);
    runtime__destroy(runtime_);
    ParentTest::TearDown();
  }

  // As libuv's uv_tcp_keepalive() does; the errno of what failed first.
  static int SetKeepAlive(const base::UniqueFd& socket, std::uint32_t idle) {
    const int on = 1;
    return ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) != 0 ||
                   ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) != 0
               ? errno
               : 0;
  }
  static void NameRequest(const base::UniqueFd& socket, std::uint32_t token) {
    EXPECT_EQ(SetKeepAlive(socket, WEIR_MARK | WEIR_MARK_INBOUND | token), WEIR_MARK_TAKEN);
  }
  static void NameCall(const base::UniqueFd& socket, std::uint32_t token) {
    EXPECT_EQ(SetKeepAlive(socket, WEIR_MARK | token), WEIR_MARK_TAKEN);
  }
  static int Option(const base::UniqueFd& socket, int level, int name) {
    int value = -1;
    socklen_t length = sizeof(value);
    EXPECT_EQ(::getsockopt(socket.get(), level, name, &value, &length), 0);
    return value;
  }

 private:
  runtime* runtime_ = nullptr;
  bpf_link* link_ = nullptr;
};

TEST_F(NodeMarkBpfTest, GivesTheRequestThatWasNamed) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  const auto number = Request(one);
  Read(one.app);
  NameRequest(one.app, 7);
  const auto other_number = Request(other);
  Read(other.app);
  NameRequest(other.app, 8);
  Outbound outbound = Connect();
  NameCall(outbound.app, 7);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_RUNTIME));
  Reply(outbound);
  NameCall(outbound.app, 8);
  EXPECT_TRUE(IsParent(Call(outbound), other, other_number, WEIR_PARENT_RUNTIME));
  EXPECT_EQ(Counter(WEIR_PARENT_BY_RUNTIME), 2U);
}

TEST_F(NodeMarkBpfTest, SpeaksForOneCallOnly) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Request(delivery);
  Read(delivery.app);
  NameRequest(delivery.app, 1);
  NameCall(outbound.app, 1);
  EXPECT_TRUE(Call(outbound).has_value());
  Reply(outbound);
  EXPECT_FALSE(Call(outbound).has_value());
}

TEST_F(NodeMarkBpfTest, GivesNoParentToWhatRunsForNoRequest) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Calibrate(delivery, outbound);
  Request(delivery);
  Read(delivery.app);
  NameCall(outbound.app, 0);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_EQ(Counter(WEIR_PARENT_RUNTIME_NONE), 1U);
}

TEST_F(NodeMarkBpfTest, LeavesTheRuleToAnswerForTokensThatItDoesNotKnow) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Calibrate(delivery, outbound);
  const auto number = Request(delivery);
  Read(delivery.app);
  NameCall(outbound.app, 99);
  EXPECT_TRUE(IsParent(Call(outbound), delivery, number, WEIR_PARENT_TURN));
}

TEST_F(NodeMarkBpfTest, GivesAnAnsweredRequestUntilTheNextOneComes) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  const auto number = Request(delivery);
  Read(delivery.app);
  NameRequest(delivery.app, 1);
  Answer(delivery);
  NameCall(outbound.app, 1);
  EXPECT_TRUE(IsParent(Call(outbound), delivery, number, WEIR_PARENT_RUNTIME));
  Reply(outbound);
  Request(delivery);
  Read(delivery.app);
  NameCall(outbound.app, 1);
  EXPECT_FALSE(Call(outbound).has_value());
}

TEST_F(NodeMarkBpfTest, KeepsTokensOfThreadsApart) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  AppThread thread;
  const auto number = Request(one);
  Read(one.app);
  NameRequest(one.app, 1);
  Request(other);
  thread.Do([&] {
    Read(other.app);
    NameRequest(other.app, 1);
  });
  NameCall(outbound.app, 1);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_RUNTIME));
}

TEST_F(NodeMarkBpfTest, NamesNoParentForARequestThatDidNotComeByTheAgent) {
  Delivery probe = DeliverUnknown();
  Outbound outbound = Connect();
  Write(probe.agent);
  Read(probe.app);
  NameRequest(probe.app, 1);
  NameCall(outbound.app, 1);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_EQ(Counter(WEIR_PARENT_RUNTIME_NONE), 1U);
}

TEST_F(NodeMarkBpfTest, LeavesTheSocketAsItWas) {
  Outbound outbound = Connect();
  const int idle = Option(outbound.app, IPPROTO_TCP, TCP_KEEPIDLE);
  NameCall(outbound.app, 0);
  EXPECT_EQ(Option(outbound.app, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(Option(outbound.app, IPPROTO_TCP, TCP_KEEPIDLE), idle);
  EXPECT_EQ(SetKeepAlive(outbound.app, 90), 0);
  NameCall(outbound.app, 0);
  EXPECT_EQ(Option(outbound.app, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(Option(outbound.app, IPPROTO_TCP, TCP_KEEPIDLE), 90);
}

TEST_F(NodeMarkBpfTest, TakesNoMarksOfWorkloadsThatDidNotAskForIt) {
  Enrol(WEIR_WORKLOAD_INFER);
  Outbound outbound = Connect();
  EXPECT_EQ(SetKeepAlive(outbound.app, WEIR_MARK | 1), EINVAL);
}

TEST_F(NodeMarkBpfTest, LetsOptionsLargerThanAPageThrough) {
  Outbound outbound = Connect();
  std::array<char, 8192> large{};
  // No such option: but the kernel says so, and not the hook.
  EXPECT_NE(::setsockopt(outbound.app.get(), IPPROTO_TCP, 9999, large.data(), large.size()), 0);
  EXPECT_EQ(errno, ENOPROTOOPT);
}

}  // namespace
}  // namespace weir::test
