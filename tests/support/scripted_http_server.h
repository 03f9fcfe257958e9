#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/unique_fd.h"

namespace weir::test {

// One request as it arrived.
struct ServedRequest {
  std::string head;  // request line and fields, without the empty line
  std::string body;
  int connection = 0;  // from 0, in the order of arrival

  // Value of the field `name` (any case), or empty.
  [[nodiscard]] std::string Field(const std::string& name) const;
};

// What the server does with a request.
struct ServedReply {
  std::vector<std::string> pieces;  // sent as they are, one after the other
  enum class Then : std::uint8_t { kKeepAlive, kClose, kReset, kHold } then = Then::kKeepAlive;
  // kHold: says nothing more until the server ends.
};

// A whole response with a Content-Length.
ServedReply Respond(int status, const std::string& body = "", const std::string& fields = "");

// ScriptedHttpServer answers each request on loopback, or on a Unix socket, with what
// `script` says; a thread per connection. For tests of clients and exporters.
class ScriptedHttpServer {
 public:
  using Script = std::function<ServedReply(const ServedRequest&)>;

  explicit ScriptedHttpServer(Script script, const std::string& unix_path = "");
  ScriptedHttpServer(const ScriptedHttpServer&) = delete;
  ScriptedHttpServer& operator=(const ScriptedHttpServer&) = delete;
  ~ScriptedHttpServer();

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url(const std::string& path = "") const;
  [[nodiscard]] std::vector<ServedRequest> requests() const;
  [[nodiscard]] int connections() const { return connections_; }
  // Waits until `count` requests have been answered; false after 20 s.
  [[nodiscard]] bool WaitForRequests(std::size_t count) const;

 private:
  void Accept();
  void Serve(int fd, int connection);
  bool Act(int fd, const ServedReply& reply) const;

  Script script_;
  std::uint16_t port_ = 0;  // filled in when listener_ is made
  base::UniqueFd listener_;
  mutable std::mutex mutex_;
  mutable std::condition_variable arrived_;
  std::vector<ServedRequest> requests_;
  std::size_t answered_ = 0;
  std::list<base::UniqueFd> sockets_;
  std::list<std::thread> threads_;
  std::atomic<int> connections_{0};
  std::thread acceptor_;
};

}  // namespace weir::test
