#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/io/byte_buffer.h"

namespace weir::tls {

// Secret owns the bytes of a key or a token: in pages of their own that stay out of
// core dumps, wiped when it dies or is moved from. It has no formatter, no stream
// operator and no conversion, so it cannot be logged by accident. Not thread-safe.
class Secret {
 public:
  Secret() = default;
  // Copies `bytes`; whoever owns the original wipes it.
  explicit Secret(std::string_view bytes);
  // Reads a whole file of at most `limit_bytes` without another copy in memory; the
  // error names the path. Blocks.
  static base::Result<Secret> ReadFile(const std::string& path, std::size_t limit_bytes);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() { Wipe(); }

  // The bytes, for the call that needs them; dies with this object.
  [[nodiscard]] std::string_view Reveal() const { return {data_, size_}; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] Secret Clone() const { return Secret(Reveal()); }
  void Wipe();

 private:
  // A mapping of `capacity` bytes, rounded up to whole pages.
  void Allocate(std::size_t capacity);

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace weir::tls
