#include <algorithm>
#include <charconv>

#include "agent/client/http_client.h"

namespace weir::client {
namespace {

constexpr std::size_t kMaxUrlBytes = 2048;
constexpr std::size_t kMaxHostBytes = 255;  // RFC 1035 section 2.3.4

bool IsVisibleAscii(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c >= 0x7f) {
      return false;
    }
  }
  return true;
}

bool IsHostChar(char c, bool is_ipv6) {
  const bool digit_or_letter =
      (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return digit_or_letter || c == '.' || (is_ipv6 ? c == ':' : c == '-' || c == '_');
}

// Splits "host", "host:port" and "[v6]:port" into `url`; false if malformed.
bool SplitAuthority(std::string_view authority, HttpUrl& url) {
  std::string_view rest;
  const bool is_ipv6 = authority.starts_with('[');
  if (is_ipv6) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) {
      return false;
    }
    url.host = authority.substr(1, end - 1);
    rest = authority.substr(end + 1);
  } else {
    const std::size_t end = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, end);
    rest = authority.substr(end);
  }
  if (url.host.empty() || url.host.size() > kMaxHostBytes) {
    return false;
  }
  for (const char c : url.host) {
    if (!IsHostChar(c, is_ipv6)) {
      return false;
    }
  }
  if (rest.empty()) {
    return true;
  }
  rest.remove_prefix(1);
  const auto [end, failure] = std::from_chars(rest.data(), rest.data() + rest.size(), url.port);
  return authority[authority.size() - rest.size() - 1] == ':' && failure == std::errc{} &&
         end == rest.data() + rest.size() && url.port != 0;
}

constexpr std::uint16_t DefaultPort(bool is_tls) {
  return is_tls ? 443 : 80;
}

std::string Authority(std::string_view host, std::uint16_t port, bool is_tls) {
  const bool is_ipv6 = host.find(':') != std::string_view::npos;
  std::string text = is_ipv6 ? "[" : "";
  text += host;
  text += is_ipv6 ? "]" : "";
  if (port != DefaultPort(is_tls)) {
    text += ':' + std::to_string(port);
  }
  return text;
}

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace

base::Result<HttpUrl> ParseHttpUrl(std::string_view url) {
  const auto bad = [&](std::string_view why) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           "URL \"" + std::string(url.substr(0, 200)) + "\": " + std::string(why));
  };
  if (url.size() > kMaxUrlBytes) {
    return bad("longer than 2048 bytes");
  }
  if (!IsVisibleAscii(url)) {
    return bad("blanks, control or non-ASCII characters");
  }
  const std::size_t scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos) {
    return bad("not of the form http(s)://HOST[:PORT][/PATH]");
  }
  const std::string_view scheme = url.substr(0, scheme_end);
  const bool is_tls = EqualIgnoringCase(scheme, "https");
  if (!is_tls && !EqualIgnoringCase(scheme, "http")) {
    return bad("the scheme is neither http nor https");
  }
  const std::string_view rest = url.substr(scheme_end + 3);
  const std::size_t authority_end = std::min(rest.find_first_of("/?#"), rest.size());
  if (rest.find('#') != std::string_view::npos) {
    return bad("it has a fragment");
  }
  const std::string_view authority = rest.substr(0, authority_end);
  if (authority.find('@') != std::string_view::npos) {
    return bad("it has user information; use a header instead");
  }
  HttpUrl parsed{.host = {}, .port = DefaultPort(is_tls), .is_tls = is_tls};
  if (!SplitAuthority(authority, parsed)) {
    return bad("bad host or port");
  }
  const std::string_view target = rest.substr(authority_end);
  parsed.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  return parsed;
}

std::string HttpUrl::origin() const {
  return (is_tls ? "https://" : "http://") + Authority(host, port, is_tls);
}

HttpPeer HttpPeer::Tcp(std::string host, std::uint16_t port) {
  return {.host = std::move(host), .port = port, .unix_path = {}};
}

HttpPeer HttpPeer::Of(const HttpUrl& url, TlsFiles tls) {
  HttpPeer peer = Tcp(url.host, url.port);
  if (url.is_tls) {
    peer.tls = std::move(tls);
  }
  return peer;
}

HttpPeer HttpPeer::Unix(std::string path) {
  return {.host = "localhost", .port = 80, .unix_path = std::move(path)};
}

std::string HttpPeer::authority() const {
  return Authority(host, port, tls.has_value());
}

std::string_view HttpResponse::Find(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualIgnoringCase(key, name)) {
      return value;
    }
  }
  return {};
}

}  // namespace weir::client
