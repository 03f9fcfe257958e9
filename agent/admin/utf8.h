#pragma once

#include <string>
#include <string_view>

namespace weir::admin {

bool IsUtf8(std::string_view text);  // RFC 3629

// `text` with every byte that is not part of a UTF-8 sequence replaced by U+FFFD: what
// peers send may be any bytes, and a message may hold nothing but UTF-8.
std::string ToUtf8(std::string_view text);

}  // namespace weir::admin
