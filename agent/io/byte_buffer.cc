#include "agent/io/byte_buffer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/base/check.h"

namespace weir::io {
namespace {
constexpr std::size_t kFirstCapacityBytes = 1024;
}

ByteBuffer::ByteBuffer(ByteBuffer&& other) noexcept
    : data_(std::move(other.data_)),
      capacity_(std::exchange(other.capacity_, 0)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)) {}

ByteBuffer& ByteBuffer::operator=(ByteBuffer&& other) noexcept {
  data_ = std::move(other.data_);
  capacity_ = std::exchange(other.capacity_, 0);
  begin_ = std::exchange(other.begin_, 0);
  end_ = std::exchange(other.end_, 0);
  return *this;
}

void ByteBuffer::Append(Bytes bytes) {
  if (bytes.empty()) {
    return;
  }
  const MutableBytes room = Prepare(bytes.size());
  std::memcpy(room.data(), bytes.data(), bytes.size());
  Commit(bytes.size());
}

MutableBytes ByteBuffer::Prepare(std::size_t least) {
  if (capacity_ - end_ < least) {
    const std::size_t used = size();
    if (capacity_ - used >= least && begin_ >= used) {
      // Enough room in front, and the move is no dearer than what was consumed.
      std::memcpy(data_.get(), data_.get() + begin_, used);
    } else {
      const std::size_t grown =
          std::max({kFirstCapacityBytes, used + least, std::min(capacity_ * 2, used * 2 + least)});
      // Uninitialised on purpose: every byte is written before it is read.
      std::unique_ptr<std::uint8_t[]> larger(new std::uint8_t[grown]);
      if (used > 0) {
        std::memcpy(larger.get(), data_.get() + begin_, used);
      }
      data_ = std::move(larger);
      capacity_ = grown;
    }
    begin_ = 0;
    end_ = used;
  }
  return {data_.get() + end_, capacity_ - end_};
}

void ByteBuffer::Commit(std::size_t count) {
  WEIR_CHECK(count <= capacity_ - end_);
  end_ += count;
}

void ByteBuffer::Consume(std::size_t count) {
  WEIR_CHECK(count <= size());
  begin_ += count;
  if (begin_ == end_) {
    begin_ = end_ = 0;
  }
}

void ByteBuffer::Trim() {
  if (empty()) {
    data_.reset();
    capacity_ = begin_ = end_ = 0;
  }
}

}  // namespace weir::io
