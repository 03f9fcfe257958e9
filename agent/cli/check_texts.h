#pragma once

#include <span>
#include <string_view>

namespace weir::cli {

// What `weir check --describe CODE` prints. Codes are never used again for another check.
struct CheckText {
  std::string_view code;
  std::string_view title;
  std::string_view looks_at;
  std::string_view when_it_fails;
  std::string_view remedy;
};
std::span<const CheckText> CheckTexts();

}  // namespace weir::cli
