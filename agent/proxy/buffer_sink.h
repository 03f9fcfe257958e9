#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/http/h2_frame.h"
#include "agent/io/byte_buffer.h"

namespace weir::proxy {

// What a codec appends goes to the back of a buffer, which outlives it.
class BufferSink final : public http::ByteSink {
 public:
  explicit BufferSink(io::ByteBuffer& buffer) : buffer_(buffer) {}
  [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t least) override {
    return buffer_.Prepare(least);
  }
  void Commit(std::size_t count) override { buffer_.Commit(count); }

 private:
  io::ByteBuffer& buffer_;
};

}  // namespace weir::proxy
