#include "agent/database/command_queue.h"

#include <utility>

namespace weir::database {

CommandQueue::Entry* CommandQueue::PushCommand(std::uint8_t kind, observe::DatabaseCall&& call,
                                               bool merges) {
  if (traced_ >= kMaxTraced) {
    Entry* entry = PushOther(kind, merges);
    if (entry != nullptr) {
      handler_.OnCommandsUntraced(1);
    }
    return entry;
  }
  if (entries_.size() >= kMaxEntries) {
    return nullptr;
  }
  handler_.OnCommandStart(/*is_alone=*/entries_.empty());
  call.index = next_index_++;
  ++traced_;
  entries_.push_back({.kind = kind});
  entries_.back().call = std::make_unique<observe::DatabaseCall>(std::move(call));
  return &entries_.back();
}

CommandQueue::Entry* CommandQueue::PushOther(std::uint8_t kind, bool merges) {
  if (merges && !entries_.empty()) {
    Entry& last = entries_.back();
    if (last.call == nullptr && last.kind == kind && last.state == 0) {
      ++last.repeat;
      return &last;
    }
  }
  if (entries_.size() >= kMaxEntries) {
    return nullptr;
  }
  entries_.push_back({.kind = kind});
  return &entries_.back();
}

// True if one of a run was taken, and others are left.
bool CommandQueue::PopRun() {
  Entry& first = entries_.front();
  if (first.repeat > 1) {
    --first.repeat;
    return true;
  }
  return false;
}

void CommandQueue::EndFront() {
  if (PopRun()) {
    return;
  }
  const std::unique_ptr<observe::DatabaseCall> call = std::move(entries_.front().call);
  entries_.pop_front();
  if (call != nullptr) {
    --traced_;
    handler_.OnCommandEnd(std::move(*call));
  }
}

void CommandQueue::DropFront() {
  if (PopRun()) {
    return;
  }
  const bool had_call = entries_.front().call != nullptr;
  entries_.pop_front();
  if (had_call) {
    --traced_;
    handler_.OnCommandDrop();
  }
}

void CommandQueue::DropSecond() {
  if (entries_[1].repeat > 1) {
    --entries_[1].repeat;
    return;
  }
  std::swap(entries_[0], entries_[1]);
  entries_.pop_front();
}

void CommandQueue::EraseBehindFront(std::uint8_t kind) {
  while (entries_.size() > 1 && entries_[1].kind == kind && entries_[1].call == nullptr) {
    entries_.erase(entries_.begin() + 1);
  }
}

void CommandQueue::EndAll() {
  while (!entries_.empty()) {
    entries_.front().repeat = 1;
    EndFront();
  }
}

}  // namespace weir::database
