#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"

// Small blocking TCP ends for tests; every wait is bounded.
namespace weir::test {

inline constexpr std::chrono::milliseconds kTcpWait{5000};

struct ListenOptions {
  bool reuse_port = false;
  bool dual_stack = false;  // a v6 socket that takes IPv4 as well
};

// A listening socket in the thread's namespace; port 0 picks one. Ends the test program
// if the address cannot be had.
base::UniqueFd Listen(const std::string& address, std::uint16_t port,
                      const ListenOptions& options = {});
// The port that a socket is bound to.
std::uint16_t PortOf(int fd);

struct DialOptions {
  bool mapped = false;  // a v6 socket that connects to the v4-mapped address
  std::optional<std::string> source;
  std::uint16_t source_port = 0;
  std::uint32_t mark = 0;
  std::string device;
};
// Connects (blocking) in the thread's namespace; the error's sys_errno is connect's, or
// ETIMEDOUT after kTcpWait.
base::Result<base::UniqueFd> Dial(const std::string& address, std::uint16_t port,
                                  const DialOptions& options = {});

// Accepts one connection; an invalid descriptor after `wait`.
base::UniqueFd AcceptOne(int listener, std::chrono::milliseconds wait = kTcpWait);
bool SendAll(int fd, std::string_view bytes);
// Everything until the end of the stream (or kTcpWait); `limit` ends it earlier. Empty
// on a reset.
std::optional<std::string> ReadAll(int fd, std::size_t limit = 1U << 20U);

}  // namespace weir::test
