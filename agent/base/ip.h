#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace weir::base {

enum class IpFamily : std::uint8_t { kV4, kV6 };

// IpAddress is one IPv4 or IPv6 address. IPv4 is kept in its v4-mapped form
// (::ffff:a.b.c.d), so that a v4 address and its mapped twin are equal: a mapped
// socket talks IPv4 on the wire. Value type, 16 bytes plus family; any thread.
class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  static IpAddress V4(std::uint32_t address_be);
  static IpAddress V6(const in6_addr& address);  // a mapped address becomes kV4
  // Accepts dotted quad and RFC 4291 text, without zone or brackets.
  static Result<IpAddress> Parse(std::string_view text);

  [[nodiscard]] IpFamily family() const;
  [[nodiscard]] bool is_v4() const { return family() == IpFamily::kV4; }
  [[nodiscard]] bool is_loopback() const;
  [[nodiscard]] bool is_unspecified() const;
  [[nodiscard]] bool is_link_local() const;
  // Network order; meaningful for kV4 only.
  [[nodiscard]] std::uint32_t v4_be() const;
  // 16 bytes in network order, v4-mapped for kV4.
  [[nodiscard]] const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }
  [[nodiscard]] std::string ToString() const;

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  std::array<std::uint8_t, 16> bytes_{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
};

// Endpoint is an address and a TCP port (host order). The scope of a link-local
// IPv6 address is kept (an interface index, 0 = none).
struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;
  std::uint32_t scope_id = 0;

  // "192.0.2.1:80" or "[2001:db8::1]:80".
  [[nodiscard]] std::string ToString() const;
  // Accepts the same two forms.
  static Result<Endpoint> Parse(std::string_view text);
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

// Cidr is an address range in prefix notation.
struct Cidr {
  IpAddress base;
  std::uint8_t prefix_bits = 0;  // 0..32 for v4, 0..128 for v6

  static Result<Cidr> Parse(std::string_view text);  // a lone address is a /32 or /128
  [[nodiscard]] bool Contains(const IpAddress& address) const;
  [[nodiscard]] std::string ToString() const;
  friend bool operator==(const Cidr&, const Cidr&) = default;
};

// A socket address in the form system calls take.
struct RawSocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const;
  [[nodiscard]] sockaddr* get();
};

// ToSockaddr gives sockaddr_in for v4, sockaddr_in6 for v6; with `mapped` a v4
// address becomes a v4-mapped sockaddr_in6.
RawSocketAddress ToSockaddr(const Endpoint& endpoint, bool mapped = false);
// Empty for families other than AF_INET and AF_INET6.
std::optional<Endpoint> FromSockaddr(const sockaddr* address, socklen_t length);
// getsockname and getpeername of `fd`.
Result<Endpoint> LocalEndpoint(int fd);
Result<Endpoint> RemoteEndpoint(int fd);

// ConnectionTuple names one TCP connection as seen from one end of it.
struct ConnectionTuple {
  Endpoint local;
  Endpoint remote;
  friend auto operator<=>(const ConnectionTuple&, const ConnectionTuple&) = default;
};

// Hash for unordered containers; not for anything an attacker could aim at without
// a limit on the table's size.
struct IpHash {
  std::size_t operator()(const IpAddress& address) const noexcept;
  std::size_t operator()(const Endpoint& endpoint) const noexcept;
  std::size_t operator()(const ConnectionTuple& tuple) const noexcept;
};

}  // namespace weir::base
