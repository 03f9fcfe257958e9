#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "agent/observe/record.h"

namespace weir::database {

// CommandHandler is told of the commands of one connection: of each that begins, and then, in
// the same order, how it ended. Worker; calls come from within a tap's calls.
class CommandHandler {
 public:
  CommandHandler() = default;
  CommandHandler(const CommandHandler&) = delete;
  CommandHandler& operator=(const CommandHandler&) = delete;
  virtual ~CommandHandler() = default;

  // A command has been sent. `is_alone`: no other one waited for its answer then.
  virtual void OnCommandStart(bool is_alone) noexcept = 0;
  // The oldest one that was started has ended, or its connection has.
  virtual void OnCommandEnd(observe::DatabaseCall&& call) noexcept = 0;
  // The oldest one that was started is not reported after all.
  virtual void OnCommandDrop() noexcept = 0;
  // `count` commands are not followed, as too many wait for their answers.
  virtual void OnCommandsUntraced(std::uint32_t count) noexcept = 0;
};

// CommandQueue holds what a server has not answered yet, in the order of the answers: commands,
// and whatever else of a protocol has an answer of its own. At most kMaxTraced commands are
// known in full; those beyond are counted in runs and get no span. One thread.
class CommandQueue {
 public:
  static constexpr std::size_t kMaxTraced = 256;
  static constexpr std::size_t kMaxEntries = 4096;

  // One thing to be answered, or a run of them. `kind` and `state` are the protocol's.
  struct Entry {
    std::uint8_t kind = 0;
    std::uint8_t state = 0;
    std::uint32_t repeat = 1;                       // above 1 only without a call
    std::int32_t number = 0;                        // the protocol's
    std::unique_ptr<observe::DatabaseCall> call{};  // of a command that is reported
  };

  explicit CommandQueue(CommandHandler& handler) : handler_(handler) {}

  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] Entry& front() { return entries_.front(); }
  [[nodiscard]] Entry& second() { return entries_[1]; }
  [[nodiscard]] Entry& back() { return entries_.back(); }

  // Adds a command that is to be reported, or counted if there are too many: then in a run if
  // it `merges`. Null at kMaxEntries: nothing was added, and the answers cannot be followed any
  // more.
  Entry* PushCommand(std::uint8_t kind, observe::DatabaseCall&& call, bool merges = true);
  // Adds what is not reported. `merges`: it may become part of a run of its kind.
  Entry* PushOther(std::uint8_t kind, bool merges);
  // The first one was answered: a command is reported.
  void EndFront();
  // The first one was answered, or never will be: a command is not reported.
  void DropFront();
  // The second one was answered while the first goes on. It must have no call.
  void DropSecond();
  // Removes the entries of `kind` that follow the first one directly; none of them may have a
  // call.
  void EraseBehindFront(std::uint8_t kind);
  // Reports all that are left.
  void EndAll();

 private:
  bool PopRun();

  CommandHandler& handler_;
  std::deque<Entry> entries_;
  std::size_t traced_ = 0;
  std::uint32_t next_index_ = 0;
};

}  // namespace weir::database
