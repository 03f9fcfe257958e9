#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/database/bytes.h"

namespace weir::database {

// HeadReader collects the few bytes that stand before a message's body, however they are
// split.
template <std::size_t kMost>
class HeadReader {
 public:
  // Takes from the front of `input`; true once `need` bytes (at most kMost) are there. They
  // stay until Clear.
  bool Take(Bytes& input, std::size_t need) {
    const std::size_t taken = std::min(need - have_, input.size());
    std::copy_n(input.begin(), taken, bytes_.begin() + have_);
    have_ += taken;
    input = input.subspan(taken);
    return have_ == need;
  }
  [[nodiscard]] Bytes bytes() const { return Bytes(bytes_).first(have_); }
  void Clear() { have_ = 0; }

 private:
  std::array<std::uint8_t, kMost> bytes_{};
  std::size_t have_ = 0;
};

// BodyReader follows one body after the other: its first bytes are handed out, the rest is
// skipped, so that a body of any size costs at most what is kept of it. Memory is held only
// while the kept part is incomplete.
class BodyReader {
 public:
  // A body of `size` bytes begins, of which the first `keep` matter.
  void Begin(std::uint64_t size, std::size_t keep) {
    need_ = static_cast<std::size_t>(std::min<std::uint64_t>(size, keep));
    left_ = size - need_;
    collecting_ = true;
    std::vector<std::uint8_t>().swap(kept_);
  }
  // Something of the body is still to come, or to be handed out.
  [[nodiscard]] bool active() const { return collecting_ || left_ > 0; }

  // Takes the body's bytes from the front of `input`. The kept part, once for each body, when
  // it is complete: it dies with the input or with the next call.
  std::optional<Bytes> Take(Bytes& input) {
    if (!collecting_) {
      const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
      left_ -= skipped;
      input = input.subspan(skipped);
      return std::nullopt;
    }
    const std::size_t taken = std::min(need_ - kept_.size(), input.size());
    const Bytes part = input.first(taken);
    input = input.subspan(taken);
    if (kept_.empty() && taken == need_) {
      collecting_ = false;
      return part;
    }
    kept_.insert(kept_.end(), part.begin(), part.end());
    if (kept_.size() < need_) {
      return std::nullopt;
    }
    collecting_ = false;
    return Bytes(kept_);
  }

 private:
  std::vector<std::uint8_t> kept_;
  std::size_t need_ = 0;
  std::uint64_t left_ = 0;
  bool collecting_ = false;
};

}  // namespace weir::database
