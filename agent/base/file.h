#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace weir::base {

// Reads a whole file of at most `limit_bytes`; a longer one is kLimit. The error
// names the path. Blocks; not for workers.
Result<std::string> ReadFile(const std::string& path, std::size_t limit_bytes);

// Writes `content` to `path` by a temporary file and rename, so that a reader sees
// the old or the new content whole; mode as given (for example 0600). Blocks.
Result<void> WriteFileAtomically(const std::string& path, std::string_view content, unsigned mode);

}  // namespace weir::base
