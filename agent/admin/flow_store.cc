#include "agent/admin/flow_store.h"

#include <algorithm>
#include <utility>

namespace weir::admin {
namespace {

// Control block of a shared_ptr, the entry itself and the allocator's rounding.
constexpr std::size_t kEntryOverheadBytes = 96;
// libstdc++ keeps this many characters inside the string object.
constexpr std::size_t kInlineStringBytes = 15;

std::size_t HeapBytes(const std::string& text) {
  return text.capacity() > kInlineStringBytes ? text.capacity() + 1 : 0;
}

}  // namespace

std::size_t FlowBytes(const observe::Flow& flow) {
  std::size_t bytes = sizeof(flow) + kEntryOverheadBytes + HeapBytes(flow.via) +
                      HeapBytes(flow.sni) + HeapBytes(flow.policy);
  if (flow.http) {
    bytes += HeapBytes(flow.http->method) + HeapBytes(flow.http->host) +
             HeapBytes(flow.http->path) + HeapBytes(flow.http->query_keys) +
             HeapBytes(flow.http->user_agent) + HeapBytes(flow.http->forwarded_host) +
             HeapBytes(flow.http->forwarded_scheme) + HeapBytes(flow.http->forwarded_client);
  }
  bytes += flow.tags.capacity() * sizeof(observe::SpanTag);
  for (const observe::SpanTag& tag : flow.tags) {
    bytes += HeapBytes(tag.name) + HeapBytes(tag.value);
  }
  if (flow.database != nullptr) {
    bytes += sizeof(*flow.database) + HeapBytes(flow.database->summary) +
             HeapBytes(flow.database->collection) + HeapBytes(flow.database->name_space);
  }
  return bytes;
}

FlowStore::FlowStore(FlowStoreLimits limits) : limits_(limits) {}

void FlowStore::Consume(const std::vector<observe::Record>& records) noexcept {
  // Copies are made before the lock is taken, evicted records are freed after it is given
  // back, so that a reader never waits for the allocator.
  std::vector<Entry> fresh;
  fresh.reserve(records.size());
  for (const observe::Record& record : records) {
    auto flow = std::make_shared<const observe::Flow>(record.flow);
    const std::size_t bytes = FlowBytes(*flow);
    fresh.push_back({.stored = {.sequence = 0, .flow = std::move(flow)}, .bytes = bytes});
  }
  std::vector<Entry> evicted;
  const std::lock_guard lock(mutex_);
  std::uint64_t sequence = next_sequence_.load(std::memory_order_relaxed);
  for (Entry& entry : fresh) {
    entry.stored.sequence = sequence++;
    bytes_ += entry.bytes;
    entries_.push_back(std::move(entry));
  }
  while (!entries_.empty() &&
         (entries_.size() > limits_.max_records || bytes_ > limits_.max_bytes)) {
    bytes_ -= entries_.front().bytes;
    evicted.push_back(std::move(entries_.front()));
    entries_.pop_front();
    ++overwritten_;
  }
  next_sequence_.store(sequence, std::memory_order_release);
}

void FlowStore::NoteLost(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  lost_ += count;
  next_sequence_.fetch_add(count, std::memory_order_acq_rel);
}

std::vector<StoredFlow> FlowStore::ReadFrom(std::uint64_t from) const {
  std::vector<StoredFlow> batch;
  batch.reserve(kMaxReadRecords);
  const std::lock_guard lock(mutex_);
  auto at = std::ranges::lower_bound(entries_, from, {},
                                     [](const Entry& entry) { return entry.stored.sequence; });
  for (; at != entries_.end() && batch.size() < kMaxReadRecords; ++at) {
    batch.push_back(at->stored);
  }
  return batch;
}

std::vector<StoredFlow> FlowStore::ReadBefore(std::uint64_t before) const {
  std::vector<StoredFlow> batch;
  batch.reserve(kMaxReadRecords);
  const std::lock_guard lock(mutex_);
  auto at = std::ranges::lower_bound(entries_, before, {},
                                     [](const Entry& entry) { return entry.stored.sequence; });
  while (at != entries_.begin() && batch.size() < kMaxReadRecords) {
    --at;
    batch.push_back(at->stored);
  }
  return batch;
}

std::uint64_t FlowStore::first_sequence() const {
  const std::lock_guard lock(mutex_);
  return entries_.empty() ? next_sequence_.load(std::memory_order_relaxed)
                          : entries_.front().stored.sequence;
}

FlowStoreUsage FlowStore::usage() const {
  const std::lock_guard lock(mutex_);
  FlowStoreUsage usage{
      .records = entries_.size(), .bytes = bytes_, .lost = lost_, .overwritten = overwritten_};
  if (!entries_.empty()) {
    usage.oldest = entries_.front().stored.flow->timing.start;
  }
  return usage;
}

}  // namespace weir::admin
