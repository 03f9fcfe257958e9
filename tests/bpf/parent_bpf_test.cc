#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tests/bpf/parent_rig.h"

namespace weir::test {
namespace {

using ParentBpfTest = ParentTest;

// An event loop of the application's: one thread, one epoll.
class Loop {
 public:
  Loop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
  void Add(const base::UniqueFd& socket, std::uint32_t events = EPOLLIN) {
    ASSERT_EQ(::fcntl(socket.get(), F_SETFL, O_NONBLOCK), 0);
    epoll_event event{.events = events, .data = {.fd = socket.get()}};
    ASSERT_EQ(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event), 0);
  }
  // Waits for something to be ready, or only lets the turn end.
  void Wait(int milliseconds = 2000) {
    epoll_event event{};
    EXPECT_EQ(::epoll_wait(epoll_.get(), &event, 1, milliseconds), milliseconds == 0 ? 0 : 1);
  }

 private:
  base::UniqueFd epoll_;
};

TEST_F(ParentBpfTest, GivesNoParentBeforeItHasLearnt) {
  Delivery delivery = Deliver();
  Request(delivery);
  Read(delivery.app);
  Outbound outbound = Connect();
  for (unsigned i = 1; i < WEIR_CALIBRATION_SAMPLES; ++i) {
    if (i > 1) {
      Request(delivery);
      Read(delivery.app);
    }
    EXPECT_FALSE(Call(outbound).has_value()) << i;
    Reply(outbound);
    Answer(delivery);
  }
  const auto number = Request(delivery);
  Read(delivery.app);
  EXPECT_TRUE(IsParent(Call(outbound), delivery, number, WEIR_PARENT_TURN));
}

TEST_F(ParentBpfTest, TellsThreadsApart) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  AppThread thread;
  const auto number = Request(one);
  const auto other_number = Request(other);
  Read(one.app);
  thread.Do([&] { Read(other.app); });
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  Reply(outbound);
  thread.Do([&] { EXPECT_TRUE(IsParent(Call(outbound), other, other_number, WEIR_PARENT_TURN)); });
}

TEST_F(ParentBpfTest, GivesTheOnlyOpenRequestToAnotherThread) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  AppThread pool;
  Calibrate(delivery, outbound, 1, &pool);
  const auto number = Request(delivery);
  Read(delivery.app);
  pool.Do([&] { EXPECT_TRUE(IsParent(Call(outbound), delivery, number, WEIR_PARENT_SOLE)); });
}

TEST_F(ParentBpfTest, NamesTheCandidatesWhenSeveralAreOpen) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  AppThread reader;
  AppThread pool;
  Calibrate(one, outbound, 1, &pool);
  Request(one);
  Request(other);
  Read(one.app);
  reader.Do([&] { Read(other.app); });
  std::optional<weir_hint> hint;
  pool.Do([&] { hint = Call(outbound); });
  ASSERT_TRUE(hint.has_value());
  EXPECT_EQ(hint->source, WEIR_PARENT_NONE);
  ASSERT_EQ(hint->candidate_count, 2U);
  EXPECT_EQ(hint->candidates[0].span_id[0] + hint->candidates[1].span_id[0],
            static_cast<int>(one.handle + other.handle));
}

TEST_F(ParentBpfTest, NeverGivesAParentToADestinationThatIsCalledForNoRequest) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Outbound clean = Connect(/*original_port=*/81);
  Calibrate(delivery, outbound);
  Call(outbound);  // a poller's
  Reply(outbound);
  Calibrate(delivery, outbound);
  Calibrate(delivery, clean);
  const auto number = Request(delivery);
  Read(delivery.app);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_TRUE(IsParent(Call(clean), delivery, number, WEIR_PARENT_TURN));
  EXPECT_GT(Counter(WEIR_PARENT_TAINTED), 0U);
}

TEST_F(ParentBpfTest, WithdrawsTrustWhenARequestCallsMoreThanAnyDidAlone) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  AppThread thread;
  const auto number = Request(one);
  Request(other);
  thread.Do([&] { Read(other.app); });
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  Reply(outbound);
  const auto second = Call(outbound);
  EXPECT_TRUE(!second || second->source == WEIR_PARENT_NONE);
  EXPECT_EQ(Counter(WEIR_PARENT_WITHDRAWN), 1U);
}

TEST_F(ParentBpfTest, WithdrawsTrustAlsoWhenARequestIsNoLongerAlone) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  AppThread thread;
  const auto number = Request(one);
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  Reply(outbound);
  Request(other);
  thread.Do([&] { Read(other.app); });
  const auto second = Call(outbound);
  EXPECT_TRUE(!second || second->source == WEIR_PARENT_NONE);
  EXPECT_EQ(Counter(WEIR_PARENT_WITHDRAWN), 1U);
}

TEST_F(ParentBpfTest, WithdrawsTrustWhenTheThreadsRequestWasAnswered) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  AppThread thread;
  Request(one);
  Request(other);
  thread.Do([&] { Read(other.app); });
  Read(one.app);
  Answer(one);
  // Only the other request is open, and this thread does not serve that.
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_EQ(Counter(WEIR_PARENT_WITHDRAWN), 1U);
}

TEST_F(ParentBpfTest, EndsALevelTriggeredTurnWithTheNextWait) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Loop loop;
  loop.Add(one.app);
  loop.Add(other.app);
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    Request(one);
    loop.Wait();
    Read(one.app);
    Call(outbound);
    Reply(outbound);
    Answer(one);
  }
  Request(other);
  loop.Wait();
  Read(other.app);
  const auto number = Request(one);
  loop.Wait();
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  Reply(outbound);
  loop.Wait(0);
  Outbound fresh = Connect();  // opened behind the turn, as by a timer
  const auto hint = Call(fresh);
  EXPECT_TRUE(hint && hint->source == WEIR_PARENT_NONE);
}

TEST_F(ParentBpfTest, KeepsTheTurnOfASocketThatWasClosedInIt) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound second = Connect(81);
  Loop loop;
  loop.Add(one.app);
  loop.Add(other.app);
  const auto serve = [&](const std::function<void()>& meanwhile = [] {}) {
    const auto number = Request(one);
    loop.Wait();
    Read(one.app);
    Outbound first = Connect(80);
    loop.Add(first.app);
    Call(first);
    meanwhile();
    Write(first.agent);
    loop.Wait();
    Read(first.app);
    first.app.Reset();  // its connection is for one call
    const auto hint = Call(second);
    Reply(second);
    Answer(one);
    return IsParent(hint, one, number, WEIR_PARENT_TURN);
  };
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    serve();
  }
  EXPECT_TRUE(serve());
  EXPECT_TRUE(serve([&] {
    Request(other);
    loop.Wait();
    Read(other.app);
  }));
}

TEST_F(ParentBpfTest, EndsAnEdgeTriggeredTurnWithTheNextWait) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Loop loop;
  loop.Add(one.app, EPOLLIN | EPOLLET);
  loop.Add(other.app, EPOLLIN | EPOLLET);
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    Request(one);
    loop.Wait();
    Read(one.app);
    Write(outbound.app);  // Reply and Answer wait, which would end the turn
    Take(outbound);
    Read(outbound.agent);
    Reply(outbound);
    Answer(one);
  }
  Request(other);
  loop.Wait();
  Read(other.app);
  const auto number = Request(one);
  loop.Wait();
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  Reply(outbound);
  Request(one);
  loop.Wait();  // the sequence moves on with what it delivers
  const auto hint = Call(outbound);
  EXPECT_TRUE(!hint || hint->source == WEIR_PARENT_NONE);
}

TEST_F(ParentBpfTest, FollowsAnAnswerBackToItsRequest) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound first = Connect(80);
  Outbound second = Connect(81);
  Loop loop;
  loop.Add(one.app);
  loop.Add(other.app);
  loop.Add(first.app);
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    Request(one);
    loop.Wait();
    Read(one.app);
    Call(first);
    Write(first.agent);
    loop.Wait();
    Read(first.app);
    Call(second);
    Reply(second);
    Answer(one);
  }
  const auto number = Request(one);
  loop.Wait();
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(first), one, number, WEIR_PARENT_TURN));
  Request(other);
  loop.Wait();
  Read(other.app);
  Write(first.agent);
  loop.Wait();
  Read(first.app);
  EXPECT_TRUE(IsParent(Call(second), one, number, WEIR_PARENT_TURN));
}

TEST_F(ParentBpfTest, FollowsNoAnswerOnAConnectionThatRequestsShare) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound shared = Connect(80);
  Outbound second = Connect(81);
  Calibrate(one, shared);
  Calibrate(one, second);
  AppThread thread;
  Request(one);
  Request(other);
  Read(one.app);
  Call(shared);
  thread.Do([&] {
    Read(other.app);
    Write(shared.app);  // before the first one's answer
  });
  Reply(shared);  // whose?
  const auto hint = Call(second);
  EXPECT_TRUE(!hint || hint->source == WEIR_PARENT_NONE);
}

TEST_F(ParentBpfTest, GivesNoTurnWhenTwoThreadsReadFromOneEpoll) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  AppThread thread;
  Loop loop;
  loop.Add(one.app);
  loop.Add(other.app);
  for (unsigned i = 0; i < 2 * WEIR_CALIBRATION_SAMPLES; ++i) {
    const bool here = i % 2 == 0;
    Delivery& delivery = here ? one : other;
    const auto serve = [&] {
      loop.Wait();
      Read(delivery.app);
      Call(outbound);
      Reply(outbound);
      Answer(delivery);
    };
    Request(delivery);
    here ? serve() : thread.Do(serve);
  }
  const auto number = Request(one);
  loop.Wait();
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_SOLE));
  Reply(outbound);
  Request(other);
  thread.Do([&] { Read(other.app); });
  const auto hint = Call(outbound);
  EXPECT_TRUE(hint && hint->source == WEIR_PARENT_NONE);
}

TEST_F(ParentBpfTest, GivesNoTurnWhenAThreadServesSeveralRequestsOutsideOfEpoll) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  Request(one);
  Request(other);
  Read(one.app);
  Read(other.app);  // by poll(), say
  const auto hint = Call(outbound);
  EXPECT_TRUE(hint && hint->source == WEIR_PARENT_NONE);
}

TEST_F(ParentBpfTest, GivesNoParentWhileAConnectionCarriesSeveralRequests) {
  Delivery one = Deliver();
  Delivery stream = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  Slot(stream.handle).flags = WEIR_SLOT_MULTIPLEXED;
  Request(stream);
  Read(stream.app);
  Request(one);
  Read(one.app);
  EXPECT_FALSE(Call(outbound).has_value());
  Reply(outbound);
  Answer(one);
  stream.app.Reset();
  stream.agent.Reset();
  const auto number = Request(one);
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
}

TEST_F(ParentBpfTest, FollowsAStreamThatIsAlone) {
  Delivery stream = Deliver();
  weir_slot& slot = Slot(stream.handle);
  slot.flags = WEIR_SLOT_STREAMS;
  Outbound outbound = Connect();
  const auto serve = [&] {
    const auto number = Request(stream);
    Read(stream.app);
    Write(stream.app);  // the acknowledgment of a PING, say
    const auto hint = Call(outbound);
    Reply(outbound);
    slot.ended = number;
    Answer(stream);
    return IsParent(hint, stream, number, WEIR_PARENT_TURN);
  };
  Write(stream.agent);  // its preface
  Read(stream.app);
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    serve();
  }
  EXPECT_TRUE(serve());
  EXPECT_FALSE(Call(outbound).has_value());  // when it is over
  EXPECT_EQ(Counter(WEIR_PARENT_NO_REQUEST_OPEN), 1U);
}

TEST_F(ParentBpfTest, DoubtsAProcessWhoseStreamWasBrokenOff) {
  Delivery one = Deliver();
  Delivery stream = Deliver();
  Outbound outbound = Connect();
  AppThread pool;
  Calibrate(one, outbound, 1, &pool);
  weir_slot& slot = Slot(stream.handle);
  slot.flags = WEIR_SLOT_STREAMS;
  Request(stream);
  Read(stream.app);
  slot.flags = WEIR_SLOT_STREAMS | WEIR_SLOT_BROKEN_OFF;
  pool.Do([&] { EXPECT_FALSE(Call(outbound).has_value()); });
  Reply(outbound);
  Request(stream);
  Read(stream.app);
  slot.flags = WEIR_SLOT_STREAMS;
  pool.Do([&] { EXPECT_FALSE(Call(outbound).has_value()); });
  EXPECT_EQ(Counter(WEIR_PARENT_TAINTED), 0U);
}

TEST_F(ParentBpfTest, GivesNoParentWhileAConnectionCarriesWhatTheAgentDoesNotFollow) {
  Delivery one = Deliver();
  Delivery opaque = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  Write(opaque.agent);  // without a number
  Read(opaque.app);
  Request(one);
  Read(one.app);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_GT(Counter(WEIR_PARENT_MULTIPLEXED), 0U);
}

TEST_F(ParentBpfTest, GivesNoParentWhileADeliveryHasNoSlot) {
  Delivery one = Deliver();
  Delivery untracked = DeliverWithoutSlot();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  Write(untracked.agent);
  Read(untracked.app);
  Write(untracked.app);  // an answer, or what HTTP/2 says first
  Request(one);
  Read(one.app);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_GT(Counter(WEIR_PARENT_MULTIPLEXED), 0U);
}

TEST_F(ParentBpfTest, CountsARequestThatDidNotComeThroughTheAgent) {
  Delivery one = Deliver();
  Delivery probe = DeliverUnknown();
  Outbound outbound = Connect();
  AppThread pool;
  Calibrate(one, outbound, 1, &pool);
  Write(probe.agent);
  Read(probe.app);
  pool.Do([&] { EXPECT_FALSE(Call(outbound).has_value()); });
  Request(one);
  AppThread reader;
  reader.Do([&] { Read(one.app); });
  pool.Do([&] { EXPECT_FALSE(Call(outbound).has_value()); });  // two are open
}

TEST_F(ParentBpfTest, DoesNotTaintAProcessThatGoesOnAfterItsClientHasReset) {
  Delivery one = Deliver();
  Delivery other = Deliver();
  Outbound outbound = Connect();
  Calibrate(one, outbound);
  Request(other);
  Read(other.app);
  const linger now{.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(::setsockopt(other.agent.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
  other.agent.Reset();
  EXPECT_FALSE(Call(outbound).has_value());
  Reply(outbound);
  const auto number = Request(one);
  Read(one.app);
  EXPECT_TRUE(IsParent(Call(outbound), one, number, WEIR_PARENT_TURN));
  EXPECT_EQ(Counter(WEIR_PARENT_TAINTED), 0U);
}

TEST_F(ParentBpfTest, SaysNothingYetOfAProcessThatIsOlderThanItsEnrolment) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  NoteEnrolment();
  Call(outbound);  // for a request that nobody saw it read
  Reply(outbound);
  Calibrate(delivery, outbound);
  Request(delivery);
  Read(delivery.app);
  EXPECT_FALSE(Call(outbound).has_value());
  EXPECT_EQ(Counter(WEIR_PARENT_TAINTED), 0U);
}

TEST_F(ParentBpfTest, GivesNoParentFromASlotThatAnotherConnectionHas) {
  Delivery former = Deliver();
  Outbound outbound = Connect();
  Calibrate(former, outbound);
  const auto number = Request(former);
  // The agent gave the connection up, and its slot to another one.
  Slot(former.handle).handle = former.handle + WEIR_SLOT_COUNT;
  Slot(former.handle).number = number;
  Read(former.app);
  EXPECT_FALSE(Call(outbound).has_value());
}

TEST_F(ParentBpfTest, LeavesNoHintOfAnEarlierRequest) {
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Calibrate(delivery, outbound);
  Request(delivery);
  Read(delivery.app);
  Write(outbound.app);  // the agent has no use for its hint
  Read(outbound.agent);
  Reply(outbound);
  Answer(delivery);
  EXPECT_FALSE(Call(outbound).has_value());
  Reply(outbound);
  Outbound other = Connect(81);
  Calibrate(delivery, other);
  Request(delivery);
  Read(delivery.app);
  Write(other.app);
  other.app.Reset();
  other.agent.Reset();
  EXPECT_FALSE(Take(other).has_value());
}

TEST_F(ParentBpfTest, LeavesAWorkloadAloneThatDoesNotWantIt) {
  Enrol(0);
  Delivery delivery = Deliver();
  Outbound outbound = Connect();
  Calibrate(delivery, outbound);
  Request(delivery);
  Read(delivery.app);
  EXPECT_FALSE(Call(outbound).has_value());
  for (int reason = WEIR_PARENT_BY_TURN; reason < WEIR_COUNTER_COUNT; ++reason) {
    EXPECT_EQ(Counter(static_cast<weir_counter>(reason)), 0U) << reason;
  }
}

}  // namespace
}  // namespace weir::test
