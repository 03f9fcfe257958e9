#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "tests/support/sandbox.h"
#include "tests/support/tcp.h"

namespace weir::test {

// What a connection from a namespace reads until its end; "reset", or "error ERRNO" when
// it could not be made.
std::string Talk(const Namespace& from, const std::string& address, std::uint16_t port,
                 const DialOptions& options = {});
// The same from the thread's own namespace.
std::string Talk(const std::string& address, std::uint16_t port, const DialOptions& options = {});
// What Talk answers for ECONNREFUSED.
std::string Refused();

// An application that greets each connection with "app ADDRESS" of its peer.
class Greeter {
 public:
  Greeter(const Namespace& ns, const std::string& address, std::uint16_t port,
          const ListenOptions& options = {});
  Greeter(const Greeter&) = delete;
  Greeter& operator=(const Greeter&) = delete;
  ~Greeter();
  [[nodiscard]] std::uint16_t port() const { return PortOf(listener_.get()); }

 private:
  base::UniqueFd listener_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// Accepts and greets on `listener` until `ending`.
void Greet(int listener, const std::atomic<bool>& ending);

}  // namespace weir::test
