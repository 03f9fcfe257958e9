#include "agent/datapath/delivery_slots.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace weir::datapath {
namespace {

constexpr std::uint32_t kGenerations = 1U << (WEIR_HANDLE_BITS - WEIR_SLOT_BITS);

void Store(std::uint32_t& field, std::uint32_t value) {
  std::atomic_ref(field).store(value, std::memory_order_release);
}

}  // namespace

DeliverySlots::DeliverySlots(weir_slot* slots, unsigned worker_count)
    : slots_(slots), shares_(worker_count), generations_(slots == nullptr ? 0 : WEIR_SLOT_COUNT) {
  const unsigned each = slots == nullptr ? 0 : WEIR_SLOT_COUNT / worker_count;
  for (unsigned worker = 0; worker < worker_count; ++worker) {
    Share& share = shares_[worker];
    share.ring.resize(each);
    share.count = each;
    for (unsigned i = 0; i < each; ++i) {
      share.ring[i] = static_cast<std::uint16_t>(worker * each + i);
    }
  }
}

std::uint32_t DeliverySlots::Acquire(unsigned worker) {
  Share& share = shares_[worker];
  if (share.count == 0) {
    return 0;
  }
  const std::uint16_t index = share.ring[share.first];
  share.first = (share.first + 1) % share.ring.size();
  --share.count;
  std::uint32_t& generation = generations_[index];
  generation = generation + 1 < kGenerations ? generation + 1 : 1;
  const std::uint32_t handle = generation << WEIR_SLOT_BITS | index;
  weir_slot& slot = slots_[index];
  Store(slot.number, 0);
  Store(slot.ended, 0);
  Store(slot.flags, 0);
  Store(slot.handle, handle);
  return handle;
}

void DeliverySlots::Release(unsigned worker, std::uint32_t handle) {
  if (handle == 0) {
    return;
  }
  Share& share = shares_[worker];
  weir_slot& slot = SlotOf(handle);
  Store(slot.handle, 0);
  share.ring[(share.first + share.count) % share.ring.size()] =
      static_cast<std::uint16_t>(handle & (WEIR_SLOT_COUNT - 1));
  ++share.count;
}

// The number goes first: a program that still copies what was there before sees that it
// copied two requests. Nobody has read the new one yet.
void DeliverySlots::Begin(std::uint32_t handle, const seam::ParentContext& context) {
  if (handle == 0) {
    return;
  }
  weir_slot& slot = SlotOf(handle);
  Store(slot.number, std::max(slot.number + 1, 1U));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  weir_trace_context& to = slot.context;
  std::ranges::copy(context.span.trace_id, to.span.trace_id);
  std::ranges::copy(context.span.span_id, to.span.span_id);
  to.flags = context.flags;
  to.state_bytes = context.state_bytes;
  static_assert(sizeof(to.state) == seam::ParentContext::kMaxStateBytes);
  std::memcpy(to.state, context.state.data(), sizeof(to.state));
  std::atomic_thread_fence(std::memory_order_release);  // before its bytes are sent
}

void DeliverySlots::MarkMultiplexed(std::uint32_t handle) {
  if (handle != 0) {
    weir_slot& slot = SlotOf(handle);
    Store(slot.flags, slot.flags | WEIR_SLOT_MULTIPLEXED);
  }
}

void DeliverySlots::MarkStreams(std::uint32_t handle) {
  if (handle != 0) {
    Store(SlotOf(handle).flags, WEIR_SLOT_STREAMS);
  }
}

// One that was broken off counts, doubtful, until another one is over.
void DeliverySlots::End(std::uint32_t handle, bool broken_off) {
  if (handle == 0) {
    return;
  }
  weir_slot& slot = SlotOf(handle);
  if (!broken_off) {
    Store(slot.ended, slot.number);
  }
  Store(slot.flags, WEIR_SLOT_STREAMS | (broken_off ? WEIR_SLOT_BROKEN_OFF : 0U));
}

}  // namespace weir::datapath
