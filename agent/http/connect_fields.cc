#include "agent/http/connect_fields.h"

#include <algorithm>
#include <array>

namespace weir::http {
namespace {

bool IsNameCharacter(char c) {
  // Token characters (RFC 9110 section 5.6.2) without upper case.
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").contains(c);
}

bool IsGoodValue(std::string_view value) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  if (!value.empty() && (blank(value.front()) || blank(value.back()))) {
    return false;
  }
  return std::ranges::none_of(value, [](char c) { return c == '\0' || c == '\r' || c == '\n'; });
}

// Fields that only make sense on one hop of HTTP/1 (RFC 9113 section 8.2.2).
bool IsConnectionSpecific(const H2Field& field) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"};
  return std::ranges::find(kNames, field.name) != kNames.end() ||
         (field.name == "te" && field.value != "trailers");
}

bool IsGoodField(const H2Field& field) {
  return !field.name.empty() && std::ranges::all_of(field.name, IsNameCharacter) &&
         !IsConnectionSpecific(field);
}

// Checks all fields; pseudo-header fields go to `take`, which says whether they are good.
template <typename Take>
bool CheckFields(const H2FieldList& fields, Take take) {
  bool pseudo_may_come = true;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const H2Field field = fields[i];
    const bool pseudo = field.name.starts_with(':');
    if (pseudo ? !pseudo_may_come || !take(field) : !IsGoodField(field)) {
      return false;
    }
    if (!IsGoodValue(field.value)) {
      return false;
    }
    pseudo_may_come = pseudo;
  }
  return true;
}

}  // namespace

std::optional<std::string_view> ParseConnectRequest(const H2FieldList& fields) {
  std::optional<std::string_view> method;
  std::optional<std::string_view> authority;
  const bool good = CheckFields(fields, [&](const H2Field& field) {
    std::optional<std::string_view>* const slot = field.name == ":method"      ? &method
                                                  : field.name == ":authority" ? &authority
                                                                               : nullptr;
    if (slot == nullptr || slot->has_value()) {
      return false;
    }
    *slot = field.value;
    return true;
  });
  if (!good || method != "CONNECT" || !authority || authority->empty()) {
    return std::nullopt;
  }
  return authority;
}

std::optional<std::uint16_t> ParseConnectStatus(const H2FieldList& fields) {
  std::optional<std::string_view> text;
  const bool good = CheckFields(fields, [&](const H2Field& field) {
    if (field.name != ":status" || text.has_value()) {
      return false;
    }
    text = field.value;
    return true;
  });
  if (!good || !text || text->size() != 3) {
    return std::nullopt;
  }
  unsigned status = 0;
  for (const char c : *text) {
    if (c < '0' || c > '9') {
      return std::nullopt;
    }
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  if (status < 100 || status > 599) {
    return std::nullopt;
  }
  return static_cast<std::uint16_t>(status);
}

}  // namespace weir::http
