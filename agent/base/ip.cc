#include "agent/base/ip.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace weir::base {
namespace {

constexpr std::size_t kMappedPrefixBytes = 12;
constexpr std::array<std::uint8_t, kMappedPrefixBytes> kMappedPrefix = {0, 0, 0, 0, 0,    0,
                                                                        0, 0, 0, 0, 0xff, 0xff};

std::optional<std::uint16_t> ParsePort(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return port;
}

std::size_t Mix(std::size_t seed, std::uint64_t value) {
  seed ^= value + 0x9e3779b97f4a7c15ULL + (seed << 6U) + (seed >> 2U);
  return seed * 0xff51afd7ed558ccdULL;
}

}  // namespace

IpAddress IpAddress::V4(std::uint32_t address_be) {
  IpAddress result;
  std::memcpy(result.bytes_.data() + kMappedPrefixBytes, &address_be, sizeof(address_be));
  return result;
}

IpAddress IpAddress::V6(const in6_addr& address) {
  IpAddress result;
  std::memcpy(result.bytes_.data(), &address, result.bytes_.size());
  return result;
}

Result<IpAddress> IpAddress::Parse(std::string_view text) {
  const std::string terminated(text);
  in_addr v4{};
  if (::inet_pton(AF_INET, terminated.c_str(), &v4) == 1) {
    return V4(v4.s_addr);
  }
  in6_addr v6{};
  if (::inet_pton(AF_INET6, terminated.c_str(), &v6) == 1) {
    return V6(v6);
  }
  return MakeError(ErrorCode::kInvalidArgument, "'" + terminated + "' is not an IP address");
}

IpFamily IpAddress::family() const {
  return std::memcmp(bytes_.data(), kMappedPrefix.data(), kMappedPrefixBytes) == 0 ? IpFamily::kV4
                                                                                   : IpFamily::kV6;
}

bool IpAddress::is_loopback() const {
  if (is_v4()) {
    return bytes_[kMappedPrefixBytes] == 127;
  }
  return std::memcmp(bytes_.data(), &in6addr_loopback, bytes_.size()) == 0;
}

bool IpAddress::is_unspecified() const {
  return is_v4() ? v4_be() == 0 : std::memcmp(bytes_.data(), &in6addr_any, bytes_.size()) == 0;
}

bool IpAddress::is_link_local() const {
  if (is_v4()) {
    return bytes_[12] == 169 && bytes_[13] == 254;
  }
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0U) == 0x80;
}

std::uint32_t IpAddress::v4_be() const {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes_.data() + kMappedPrefixBytes, sizeof(value));
  return value;
}

std::string IpAddress::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (is_v4()) {
    ::inet_ntop(AF_INET, bytes_.data() + kMappedPrefixBytes, buffer.data(), buffer.size());
  } else {
    ::inet_ntop(AF_INET6, bytes_.data(), buffer.data(), buffer.size());
  }
  return buffer.data();
}

std::string Endpoint::ToString() const {
  std::string text = address.is_v4() ? address.ToString() : "[" + address.ToString() + "]";
  text += ':';
  text += std::to_string(port);
  return text;
}

Result<Endpoint> Endpoint::Parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && colon > 0) {
    std::string_view host = text.substr(0, colon);
    const bool bracketed = host.front() == '[' && host.back() == ']';
    if (bracketed) {
      host = host.substr(1, host.size() - 2);
    }
    const auto port = ParsePort(text.substr(colon + 1));
    auto address = IpAddress::Parse(host);
    if (port && address && (bracketed || address->is_v4())) {
      return Endpoint{.address = *address, .port = *port};
    }
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "'" + std::string(text) + "' is not ADDRESS:PORT or [ADDRESS]:PORT");
}

Result<Cidr> Cidr::Parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  auto base = IpAddress::Parse(text.substr(0, slash));
  if (!base) {
    return std::unexpected(base.error());
  }
  const std::uint16_t most = base->is_v4() ? 32 : 128;
  if (slash == std::string_view::npos) {
    return Cidr{.base = *base, .prefix_bits = static_cast<std::uint8_t>(most)};
  }
  const auto bits = ParsePort(text.substr(slash + 1));
  if (!bits || *bits > most) {
    return MakeError(ErrorCode::kInvalidArgument, "'" + std::string(text) +
                                                      "' is not an address range (ADDRESS/0.." +
                                                      std::to_string(most) + ")");
  }
  return Cidr{.base = *base, .prefix_bits = static_cast<std::uint8_t>(*bits)};
}

bool Cidr::Contains(const IpAddress& address) const {
  if (base.family() != address.family()) {
    return false;
  }
  std::size_t bits = prefix_bits + (base.is_v4() ? kMappedPrefixBytes * 8 : 0);
  for (std::size_t i = 0; bits > 0; ++i) {
    const std::size_t take = bits < 8 ? bits : 8;
    const unsigned mask = (0xff00U >> take) & 0xffU;
    if ((base.bytes()[i] & mask) != (address.bytes()[i] & mask)) {
      return false;
    }
    bits -= take;
  }
  return true;
}

std::string Cidr::ToString() const {
  return base.ToString() + "/" + std::to_string(prefix_bits);
}

// sockaddr is the C API's own type punning.
const sockaddr* RawSocketAddress::get() const {
  return reinterpret_cast<const sockaddr*>(&storage);
}
sockaddr* RawSocketAddress::get() {
  return reinterpret_cast<sockaddr*>(&storage);
}

RawSocketAddress ToSockaddr(const Endpoint& endpoint, bool mapped) {
  RawSocketAddress raw;
  if (endpoint.address.is_v4() && !mapped) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    v4.sin_addr.s_addr = endpoint.address.v4_be();
    std::memcpy(&raw.storage, &v4, sizeof(v4));
    raw.length = sizeof(v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    v6.sin6_scope_id = endpoint.scope_id;
    std::memcpy(&v6.sin6_addr, endpoint.address.bytes().data(), sizeof(v6.sin6_addr));
    std::memcpy(&raw.storage, &v6, sizeof(v6));
    raw.length = sizeof(v6);
  }
  return raw;
}

std::optional<Endpoint> FromSockaddr(const sockaddr* address, socklen_t length) {
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof(v4));
    return Endpoint{.address = IpAddress::V4(v4.sin_addr.s_addr), .port = ntohs(v4.sin_port)};
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, address, sizeof(v6));
    return Endpoint{.address = IpAddress::V6(v6.sin6_addr),
                    .port = ntohs(v6.sin6_port),
                    .scope_id = v6.sin6_scope_id};
  }
  return std::nullopt;
}

namespace {
using NameCall = int (*)(int, sockaddr*, socklen_t*);

Result<Endpoint> EndpointOf(int fd, NameCall call, std::string_view what) {
  RawSocketAddress raw;
  raw.length = sizeof(raw.storage);
  if (call(fd, raw.get(), &raw.length) != 0) {
    return SystemError(what);
  }
  auto endpoint = FromSockaddr(raw.get(), raw.length);
  if (!endpoint) {
    return MakeError(ErrorCode::kUnsupported, std::string(what) + ": not an IP socket");
  }
  return *endpoint;
}
}  // namespace

Result<Endpoint> LocalEndpoint(int fd) {
  return EndpointOf(fd, ::getsockname, "getsockname");
}
Result<Endpoint> RemoteEndpoint(int fd) {
  return EndpointOf(fd, ::getpeername, "getpeername");
}

std::size_t IpHash::operator()(const IpAddress& address) const noexcept {
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), address.bytes().data(), sizeof(words));
  return Mix(Mix(0, words[0]), words[1]);
}

std::size_t IpHash::operator()(const Endpoint& endpoint) const noexcept {
  return Mix((*this)(endpoint.address), endpoint.port);
}

std::size_t IpHash::operator()(const ConnectionTuple& tuple) const noexcept {
  return Mix((*this)(tuple.local), (*this)(tuple.remote));
}

}  // namespace weir::base
