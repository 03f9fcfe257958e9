#include <sys/socket.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/datapath/worker_table.h"
#include "tests/support/root_test.h"
#include "tests/support/sandbox.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71  // Linux 5.14, asm-generic/socket.h
#endif

namespace weir::datapath {
namespace {

constexpr auto kId = model::LocalId{7};

std::uint64_t CookieOf(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), 0);
  return cookie;
}

// All sockets of the namespace, connected or not; a few are those of its making, and go.
int SocketsIn(const test::Namespace& ns) {
  return ns.Run([] {
    std::ifstream file("/proc/thread-self/net/sockstat");
    std::string word;
    std::string used;
    int count = -1;
    file >> word >> used >> count;  // "sockets: used 3"
    return count;
  });
}

class WorkerTableTest : public test::RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_ = std::make_unique<test::Sandbox>();
    pod_ = &sandbox_->AddNamespace("pod");
    home_ = std::move(*OpenOwnNetns());
    table_ = std::make_unique<WorkerTable>(home_.get());
  }
  [[nodiscard]] static WorkerTable::Entry EntryOf(const test::Namespace& ns) {
    return {.netns_fd = ns.fd(), .cookie = ns.Cookie(), .ports = LegPortsOutside({})};
  }
  std::vector<base::UniqueFd> Take(std::size_t count, model::LocalId id = kId) {
    std::vector<base::UniqueFd> taken;
    for (std::size_t i = 0; i < count; ++i) {
      auto made = table_->MakeSocket(id, AF_INET);
      EXPECT_TRUE(made) << made.error().ToString();
      taken.push_back(std::move(made->fd));
    }
    return taken;
  }

  std::unique_ptr<test::Sandbox> sandbox_;
  test::Namespace* pod_ = nullptr;
  base::UniqueFd home_;
  std::unique_ptr<WorkerTable> table_;
};

TEST_F(WorkerTableTest, MakesMoreSocketsAtOnceForWhoAsksAgain) {
  table_->Set(kId, EntryOf(*pod_));
  auto taken = Take(1);
  EXPECT_EQ(table_->reserved(), 0U);  // whoever asks once leaves nothing waiting
  for (const std::size_t batch : {2U, 4U, 8U, 16U, 16U}) {
    taken = Take(1);
    EXPECT_EQ(table_->reserved(), batch - 1);
    taken = Take(batch - 1);
    EXPECT_EQ(table_->reserved(), 0U);
    EXPECT_EQ(CookieOf(taken[0].get()), pod_->Cookie());
  }
  EXPECT_EQ(OwnNetnsCookie().value(),
            CookieOf(base::UniqueFd(::socket(AF_INET, SOCK_STREAM, 0)).get()));
}

TEST_F(WorkerTableTest, ClosesTheWaitingSocketsOfAWorkloadThatIsRemoved) {
  const int before = SocketsIn(*pod_);
  table_->Set(kId, EntryOf(*pod_));
  Take(8);  // made 1, 2, 4 and 8; 7 wait
  std::thread([&] { Take(2); }).join();
  EXPECT_EQ(table_->reserved(), 8U);
  EXPECT_GE(SocketsIn(*pod_), 8);
  table_->Remove(kId);
  EXPECT_EQ(table_->reserved(), 0U);
  EXPECT_LE(SocketsIn(*pod_), before);
  EXPECT_EQ(table_->MakeSocket(kId, AF_INET).error().code(), base::ErrorCode::kNotFound);
}

TEST_F(WorkerTableTest, GivesNoSocketOfTheNamespaceThatAWorkloadHadBefore) {
  test::Namespace& next = sandbox_->AddNamespace("next");
  table_->Set(kId, EntryOf(*pod_));
  Take(2);
  ASSERT_EQ(table_->reserved(), 1U);
  table_->Set(kId, EntryOf(next));
  EXPECT_EQ(table_->reserved(), 0U);
  EXPECT_EQ(CookieOf(Take(1)[0].get()), next.Cookie());
}

TEST_F(WorkerTableTest, BoundsTheWaitingSocketsOfAllWorkloads) {
  const int before = SocketsIn(*pod_);
  for (std::uint32_t i = 0; i < 40; ++i) {
    const auto id = model::LocalId{100 + i};
    table_->Set(id, EntryOf(*pod_));
    Take(16, id);  // leaves 15
    EXPECT_LE(table_->reserved(), WorkerTable::kMaxReserve);
    EXPECT_LE(SocketsIn(*pod_), before + static_cast<int>(table_->reserved()));
  }
  EXPECT_GE(SocketsIn(*pod_), static_cast<int>(table_->reserved()));
  EXPECT_GT(table_->reserved(), 0U);
}

TEST_F(WorkerTableTest, KeepsFamiliesApartAndNothingForTheAgentsOwnNamespace) {
  table_->Set(kId, EntryOf(*pod_));
  Take(2);
  const auto v6 = table_->MakeSocket(kId, AF_INET6);
  ASSERT_TRUE(v6);
  int family = 0;
  socklen_t length = sizeof(family);
  ASSERT_EQ(::getsockopt(v6->fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &length), 0);
  EXPECT_EQ(family, AF_INET6);
  table_->Set(kId, {.netns_fd = -1, .cookie = 1, .ports = LegPortsOutside({})});
  Take(4);
  EXPECT_EQ(table_->reserved(), 0U);
}

}  // namespace
}  // namespace weir::datapath
