#include "agent/datapath/delivery_slots.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace weir::datapath {
namespace {

class DeliverySlotsTest : public ::testing::Test {
 protected:
  weir_slot& SlotOf(std::uint32_t handle) { return memory_[handle & (WEIR_SLOT_COUNT - 1)]; }

  std::vector<weir_slot> memory_ = std::vector<weir_slot>(WEIR_SLOT_COUNT);
};

TEST_F(DeliverySlotsTest, GivesEachWorkerItsShareAndThenNone) {
  DeliverySlots slots(memory_.data(), /*worker_count=*/2);
  std::set<std::uint32_t> seen;
  for (unsigned worker = 0; worker < 2; ++worker) {
    for (unsigned i = 0; i < WEIR_SLOT_COUNT / 2; ++i) {
      const auto handle = slots.Acquire(worker);
      ASSERT_NE(handle, 0U);
      EXPECT_EQ(SlotOf(handle).handle, handle);
      seen.insert(handle & (WEIR_SLOT_COUNT - 1));
    }
    EXPECT_EQ(slots.Acquire(worker), 0U);
  }
  EXPECT_EQ(seen.size(), WEIR_SLOT_COUNT);
}

TEST_F(DeliverySlotsTest, GivesASlotBackUnderAnotherHandleAndLast) {
  DeliverySlots slots(memory_.data(), /*worker_count=*/1);
  const auto first = slots.Acquire(0);
  slots.Release(0, first);
  EXPECT_EQ(SlotOf(first).handle, 0U);
  for (unsigned i = 0; i < WEIR_SLOT_COUNT - 1; ++i) {
    EXPECT_NE(slots.Acquire(0) & (WEIR_SLOT_COUNT - 1), first & (WEIR_SLOT_COUNT - 1));
  }
  const auto again = slots.Acquire(0);
  EXPECT_EQ(again & (WEIR_SLOT_COUNT - 1), first & (WEIR_SLOT_COUNT - 1));
  EXPECT_NE(again, first);
  EXPECT_LT(again, 1U << WEIR_HANDLE_BITS);
}

TEST_F(DeliverySlotsTest, NumbersTheRequestsOfAConnection) {
  DeliverySlots slots(memory_.data(), /*worker_count=*/1);
  const auto handle = slots.Acquire(0);
  EXPECT_EQ(SlotOf(handle).number, 0U);
  seam::ParentContext context;
  context.span.span_id[7] = 5;
  context.flags = 1;
  context.SetTraceState("k=v");
  slots.Begin(handle, context);
  EXPECT_EQ(SlotOf(handle).number, 1U);
  EXPECT_EQ(SlotOf(handle).context.span.span_id[7], 5);
  EXPECT_EQ(SlotOf(handle).context.state_bytes, 3);
  slots.Begin(handle, {});
  EXPECT_EQ(SlotOf(handle).number, 2U);
  slots.MarkMultiplexed(handle);
  EXPECT_EQ(SlotOf(handle).flags, WEIR_SLOT_MULTIPLEXED);
  slots.Release(0, handle);
  for (unsigned i = 0; i < WEIR_SLOT_COUNT; ++i) {
    EXPECT_EQ(SlotOf(slots.Acquire(0)).number, 0U);
  }
  EXPECT_EQ(SlotOf(handle).flags, 0U);
}

TEST_F(DeliverySlotsTest, SaysWhenTheRequestsOfStreamsAreOver) {
  DeliverySlots slots(memory_.data(), /*worker_count=*/1);
  const auto handle = slots.Acquire(0);
  slots.MarkStreams(handle);
  EXPECT_EQ(SlotOf(handle).flags, WEIR_SLOT_STREAMS);
  slots.Begin(handle, {});
  EXPECT_EQ(SlotOf(handle).ended, 0U);
  slots.MarkMultiplexed(handle);
  EXPECT_EQ(SlotOf(handle).flags, WEIR_SLOT_STREAMS | WEIR_SLOT_MULTIPLEXED);
  slots.End(handle, /*broken_off=*/false);
  EXPECT_EQ(SlotOf(handle).flags, WEIR_SLOT_STREAMS);
  EXPECT_EQ(SlotOf(handle).ended, 1U);
  slots.Begin(handle, {});
  slots.End(handle, /*broken_off=*/true);
  EXPECT_EQ(SlotOf(handle).flags, WEIR_SLOT_STREAMS | WEIR_SLOT_BROKEN_OFF);
  EXPECT_EQ(SlotOf(handle).ended, 1U);
}

TEST_F(DeliverySlotsTest, HasNoneToGiveWithoutTheProgram) {
  DeliverySlots slots(nullptr, /*worker_count=*/2);
  EXPECT_EQ(slots.Acquire(1), 0U);
  slots.Release(1, 0);
  slots.Begin(0, {});
  slots.MarkMultiplexed(0);
  slots.MarkStreams(0);
  slots.End(0, /*broken_off=*/false);
}

}  // namespace
}  // namespace weir::datapath
