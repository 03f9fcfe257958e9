#include "agent/http/stream_table.h"

#include <bit>
#include <random>

#include "agent/base/check.h"

namespace weir::http {
namespace {

constexpr std::size_t kFirstCapacity = 8;

// Odd and secret for the process, so that a peer cannot choose ids that collide.
std::uint32_t Multiplier() {
  static const std::uint32_t multiplier = std::random_device{}() | 1U;
  return multiplier;
}

}  // namespace

std::size_t StreamTable::Home(TunnelStreamId id) const {
  const auto bits = static_cast<unsigned>(std::countr_zero(slots_.size()));
  return (id * Multiplier()) >> (32U - bits);
}

TunnelStreamState* StreamTable::Find(TunnelStreamId id) {
  if (id == 0 || slots_.empty()) {
    return nullptr;
  }
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = Home(id); slots_[slot].id != 0; slot = (slot + 1) & mask) {
    if (slots_[slot].id == id) {
      return &slots_[slot];
    }
  }
  return nullptr;
}

TunnelStreamState& StreamTable::Insert(TunnelStreamId id) {
  WEIR_CHECK(id != 0);
  if ((size_ + 1) * 4 > slots_.size() * 3) {
    Rehash(slots_.empty() ? kFirstCapacity : slots_.size() * 2);
  }
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = Home(id);
  while (slots_[slot].id != 0) {
    slot = (slot + 1) & mask;
  }
  ++size_;
  slots_[slot] = {};
  slots_[slot].id = id;
  return slots_[slot];
}

void StreamTable::Erase(TunnelStreamId id) {
  TunnelStreamState* const found = Find(id);
  if (found == nullptr) {
    return;
  }
  const std::size_t mask = slots_.size() - 1;
  auto hole = static_cast<std::size_t>(found - slots_.data());
  // Moves back whatever would not be found any more across the hole.
  for (std::size_t next = (hole + 1) & mask; slots_[next].id != 0; next = (next + 1) & mask) {
    const std::size_t distance_of_home = (next - Home(slots_[next].id)) & mask;
    if (distance_of_home >= ((next - hole) & mask)) {
      slots_[hole] = slots_[next];
      hole = next;
    }
  }
  slots_[hole] = {};
  --size_;
  if (slots_.size() > kFirstCapacity && size_ * 8 < slots_.size()) {
    Rehash(slots_.size() / 2);
  }
}

TunnelStreamState& StreamTable::Any() {
  WEIR_CHECK(size_ > 0);
  const std::size_t mask = slots_.size() - 1;
  any_ &= mask;
  while (slots_[any_].id == 0) {
    any_ = (any_ + 1) & mask;
  }
  return slots_[any_];
}

void StreamTable::Rehash(std::size_t capacity) {
  std::vector<TunnelStreamState> old(capacity);
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const TunnelStreamState& state : old) {
    if (state.id != 0) {
      std::size_t slot = Home(state.id);
      while (slots_[slot].id != 0) {
        slot = (slot + 1) & mask;
      }
      slots_[slot] = state;
    }
  }
}

}  // namespace weir::http
