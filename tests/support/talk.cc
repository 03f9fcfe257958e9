#include "tests/support/talk.h"

#include <cerrno>
#include <chrono>

#include "agent/base/ip.h"

namespace weir::test {

std::string Talk(const std::string& address, std::uint16_t port, const DialOptions& options) {
  auto fd = Dial(address, port, options);
  if (!fd) {
    return "error " + std::to_string(fd.error().sys_errno());
  }
  return ReadAll(fd->get()).value_or("reset");
}

std::string Talk(const Namespace& from, const std::string& address, std::uint16_t port,
                 const DialOptions& options) {
  return from.Run([&] { return Talk(address, port, options); });
}

std::string Refused() {
  return "error " + std::to_string(ECONNREFUSED);
}

Greeter::Greeter(const Namespace& ns, const std::string& address, std::uint16_t port,
                 const ListenOptions& options)
    : listener_(ns.Run([&] { return Listen(address, port, options); })),
      thread_([this] { Greet(listener_.get(), ending_); }) {}

Greeter::~Greeter() {
  ending_ = true;
  thread_.join();
}

void Greet(int listener, const std::atomic<bool>& ending) {
  while (!ending) {
    const auto fd = AcceptOne(listener, std::chrono::milliseconds(20));
    if (!fd.valid()) {
      continue;
    }
    if (const auto peer = base::RemoteEndpoint(fd.get())) {
      (void)SendAll(fd.get(), "app " + peer->address.ToString());
    }
  }
}

}  // namespace weir::test
