#pragma once

#include <cstdint>
#include <string_view>

#include "agent/io/byte_buffer.h"

namespace weir::proxy {

// Text protocols read the bytes of a buffer as characters; no byte is changed or copied.
inline std::string_view AsText(io::Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline io::Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline void AppendText(std::string_view text, io::ByteBuffer& out) {
  out.Append(AsBytes(text));
}

}  // namespace weir::proxy
