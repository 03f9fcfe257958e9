#include "agent/http/forwarded.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/http/token.h"

namespace weir::http {
namespace {

// What a host with a port is made of (RFC 3986 section 3.2), percent-encoding left out.
bool IsHostText(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    const char lower = ToLower(c);
    return (lower >= 'a' && lower <= 'z') || IsClass(c, CharClass::kDigit) || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
  });
}

// The scheme that `text` names, in lower case; empty for any other.
std::string_view KnownScheme(std::string_view text) {
  if (EqualsIgnoreCase(text, "https")) {
    return "https";
  }
  return EqualsIgnoreCase(text, "http") ? "http" : "";
}

// The address in "192.0.2.1", "192.0.2.1:80", "2001:db8::1" or "[2001:db8::1]:80"; empty for
// "unknown", a made-up name, or anything else.
std::string AddressIn(std::string_view text) {
  if (text.starts_with('[')) {
    text = text.substr(1, text.find(']') - 1);
  } else if (std::ranges::count(text, ':') == 1) {
    text = text.substr(0, text.find(':'));
  }
  const auto address = base::IpAddress::Parse(text);
  return address ? address->ToString() : std::string();
}

std::string_view FirstOfList(std::string_view list) {
  return TrimOws(list.substr(0, list.find(',')));
}

// Takes the next pair name=value off the front of `rest`, which is a Forwarded element list;
// false at the end of the first element, or where it is malformed.
bool TakePair(std::string_view& rest, std::string_view& name, std::string_view& value) {
  rest = TrimOws(rest);
  const std::size_t equals = rest.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return false;
  }
  name = rest.substr(0, equals);
  rest.remove_prefix(equals + 1);
  if (!AllOfClass(name, CharClass::kToken)) {
    return false;
  }
  if (rest.starts_with('"')) {
    const std::size_t end = rest.find_first_of("\"\\", 1);
    if (end == std::string_view::npos || rest[end] == '\\') {
      return false;  // an escaped character has no place in a host or an address
    }
    value = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
  } else {
    value = rest.substr(0, rest.find_first_of(";, \t"));
    rest.remove_prefix(value.size());
  }
  rest = TrimOws(rest);
  if (rest.starts_with(';')) {
    rest.remove_prefix(1);
  } else {
    rest = {};
  }
  return true;
}

}  // namespace

void ForwardedHeaders::Note(std::string_view name, std::string_view value) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (values_[i].empty() && EqualsIgnoreCase(name, kNames[i])) {
      values_[i] = value;
    }
  }
}

ForwardedFacts ForwardedHeaders::Read() const {
  ForwardedFacts facts;
  std::string_view rest = At(Which::kForwarded);
  std::string_view name;
  std::string_view value;
  while (TakePair(rest, name, value)) {
    if (EqualsIgnoreCase(name, "host") && IsHostText(value)) {
      facts.host = value;
    } else if (EqualsIgnoreCase(name, "proto")) {
      facts.scheme = KnownScheme(value);
    } else if (EqualsIgnoreCase(name, "for")) {
      facts.client = AddressIn(value);
    }
  }
  if (const auto host = FirstOfList(At(Which::kHost)); facts.host.empty() && IsHostText(host)) {
    facts.host = host;
  }
  if (facts.scheme.empty()) {
    facts.scheme = KnownScheme(FirstOfList(At(Which::kProto)));
  }
  if (facts.client.empty()) {
    facts.client = AddressIn(FirstOfList(At(Which::kFor)));
  }
  return facts;
}

}  // namespace weir::http
