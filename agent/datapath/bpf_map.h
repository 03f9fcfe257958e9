#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

// Map elements by value. Key and Value must be the map's types of bpf/abi.
namespace weir::datapath {

namespace internal {
int UpdateElement(int map_fd, const void* key, const void* value, std::uint64_t flags);
int LookupElement(int map_fd, const void* key, void* value);
int TakeElement(int map_fd, const void* key, void* value);
int DeleteElement(int map_fd, const void* key);
int NextKey(int map_fd, const void* key, void* next);
}  // namespace internal

// Sets an element; `only_new` fails with kAlreadyExists if there is one.
template <typename Key, typename Value>
base::Result<void> MapSet(int map_fd, const Key& key, const Value& value, bool only_new = false) {
  const int error = internal::UpdateElement(map_fd, &key, &value, only_new ? 1 : 0);
  if (error != 0) {
    return base::SystemError("update a BPF map", error);
  }
  return {};
}

template <typename Value, typename Key>
std::optional<Value> MapGet(int map_fd, const Key& key) {
  Value value{};
  return internal::LookupElement(map_fd, &key, &value) == 0 ? std::optional(value) : std::nullopt;
}

// Reads and deletes in one step.
template <typename Value, typename Key>
std::optional<Value> MapTake(int map_fd, const Key& key) {
  Value value{};
  return internal::TakeElement(map_fd, &key, &value) == 0 ? std::optional(value) : std::nullopt;
}

// A missing element is no failure.
template <typename Key>
void MapErase(int map_fd, const Key& key) {
  (void)internal::DeleteElement(map_fd, &key);
}

// Every key; one that is removed meanwhile may make the walk begin again, so it is
// bounded by `limit`.
template <typename Key>
std::vector<Key> MapKeys(int map_fd, std::size_t limit = 1U << 20U) {
  std::vector<Key> keys;
  Key key{};
  const void* former = nullptr;
  while (keys.size() < limit && internal::NextKey(map_fd, former, &key) == 0) {
    keys.push_back(key);
    former = &keys.back();
  }
  return keys;
}

// One element of a per-CPU array of 64-bit counters, summed.
std::uint64_t MapSum(int map_fd, std::uint32_t index);

// Makes `path` in a BPF file system name the map, replacing what was there.
base::Result<void> PinMap(int map_fd, const std::string& path);
// Opens a pinned map whose key and value have these sizes; empty when there is none or
// it is another.
base::UniqueFd OpenPinnedMap(const std::string& path, std::uint32_t key_bytes,
                             std::uint32_t value_bytes);

}  // namespace weir::datapath
