#include "agent/base/mailbox.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <thread>
#include <vector>

namespace weir::base {
namespace {

bool IsReadable(int fd) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

TEST(MailboxTest, SignalsOnceWhenPostedTwiceBeforeDrain) {
  auto mailbox = Mailbox<int>::Create();
  ASSERT_TRUE(mailbox.has_value());
  mailbox->Post(1);
  mailbox->Post(2);
  std::uint64_t signals = 0;
  ASSERT_EQ(::read(mailbox->event_fd(), &signals, sizeof(signals)), sizeof(signals));
  EXPECT_EQ(signals, 1U);
  EXPECT_EQ(mailbox->Drain(), (std::vector<int>{1, 2}));
  mailbox->Post(3);
  ASSERT_EQ(::read(mailbox->event_fd(), &signals, sizeof(signals)), sizeof(signals));
  EXPECT_EQ(signals, 1U);
}

TEST(MailboxTest, GivesBackInOrderAndWakesTheOwner) {
  auto mailbox = Mailbox<std::unique_ptr<int>>::Create().value();
  EXPECT_FALSE(IsReadable(mailbox.event_fd()));
  for (int i = 0; i < 3; ++i) {
    mailbox.Post(std::make_unique<int>(i));
  }
  EXPECT_TRUE(IsReadable(mailbox.event_fd()));
  const auto values = mailbox.Drain();
  ASSERT_EQ(values.size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(*values[static_cast<std::size_t>(i)], i);
  }
  EXPECT_FALSE(IsReadable(mailbox.event_fd()));
  EXPECT_TRUE(mailbox.Drain().empty());
}

TEST(MailboxTest, LosesNothingWithManyPosters) {
  auto mailbox = Mailbox<int>::Create().value();
  constexpr int kThreads = 4;
  constexpr int kEach = 5000;
  std::vector<std::jthread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&mailbox, t] {
      for (int i = 0; i < kEach; ++i) {
        mailbox.Post(t * kEach + i);
      }
    });
  }
  std::vector<int> last(kThreads, -1);
  for (int seen = 0; seen < kThreads * kEach;) {
    for (const int value : mailbox.Drain()) {
      const auto poster = static_cast<std::size_t>(value / kEach);
      EXPECT_EQ(value % kEach, last[poster] + 1);  // in order per poster
      last[poster] = value % kEach;
      ++seen;
    }
  }
}

}  // namespace
}  // namespace weir::base
