#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace weir::base {

// Whether `text` is well-formed UTF-8 (Unicode 15, table 3-7): no overlong form, no
// surrogate, nothing beyond U+10FFFF. Any thread.
bool IsUtf8(std::string_view text);

// How many bytes at the front of `text` are well-formed characters, whole ones. Any thread.
std::size_t Utf8PrefixBytes(std::string_view text);

// Gives `text` itself when it is UTF-8, else a view of `scratch`, filled with a copy in
// which each byte that is not part of a character is U+FFFD. For text from peers on its
// way into messages that must be UTF-8. The view dies with `text` or `scratch`.
std::string_view ToUtf8(std::string_view text, std::string& scratch);

}  // namespace weir::base
