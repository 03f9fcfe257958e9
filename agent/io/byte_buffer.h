#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weir::io {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

// ByteBuffer is a contiguous queue of bytes: appended at the back, consumed at the
// front. An empty buffer owns no memory once Trim() was called, so an idle connection
// costs nothing. Not thread-safe.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept;
  ByteBuffer& operator=(ByteBuffer&& other) noexcept;
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;
  ~ByteBuffer() = default;

  [[nodiscard]] std::size_t size() const { return end_ - begin_; }
  [[nodiscard]] bool empty() const { return begin_ == end_; }
  // Valid until the next call that is not const.
  [[nodiscard]] Bytes Readable() const { return {data_.get() + begin_, size()}; }
  // The readable bytes for changing in place (decryption).
  [[nodiscard]] MutableBytes Writable() { return {data_.get() + begin_, size()}; }

  void Append(Bytes bytes);
  // Room for `least` bytes or more at the back; Commit says how many were written.
  [[nodiscard]] MutableBytes Prepare(std::size_t least);
  void Commit(std::size_t count);
  // Drops `count` bytes (at most size()) from the front.
  void Consume(std::size_t count);
  void Clear() { begin_ = end_ = 0; }
  // Frees the memory if the buffer is empty.
  void Trim();

 private:
  std::unique_ptr<std::uint8_t[]> data_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace weir::io
