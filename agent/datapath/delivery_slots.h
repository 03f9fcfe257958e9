#pragma once

#include <cstdint>
#include <vector>

#include "agent/seam/causality.h"
#include "bpf/abi/causality.h"

namespace weir::datapath {

// DeliverySlots gives the slots of the array that is shared with the parent program to
// delivery connections. Each worker has a share of its own, so that nothing is locked; a
// slot that was given back is the last to be given out again.
class DeliverySlots {
 public:
  // `slots` has WEIR_SLOT_COUNT elements and outlives this; null: there are none to give.
  DeliverySlots(weir_slot* slots, unsigned worker_count);

  // As seam::Causality says.
  std::uint32_t Acquire(unsigned worker);
  void Release(unsigned worker, std::uint32_t handle);
  void Begin(std::uint32_t handle, const seam::ParentContext& context);
  void MarkMultiplexed(std::uint32_t handle);
  void MarkStreams(std::uint32_t handle);
  void End(std::uint32_t handle, bool broken_off);

 private:
  // The free slots of one worker, oldest first. Aligned: workers must not share a line.
  struct alignas(64) Share {
    std::vector<std::uint16_t> ring;
    std::size_t first = 0;
    std::size_t count = 0;
  };
  [[nodiscard]] weir_slot& SlotOf(std::uint32_t handle) const {
    return slots_[handle & (WEIR_SLOT_COUNT - 1)];
  }

  weir_slot* slots_;
  std::vector<Share> shares_;
  std::vector<std::uint32_t> generations_;  // by slot
};

}  // namespace weir::datapath
