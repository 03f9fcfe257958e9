#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"

namespace weir::test {

// One HTTP/2 request as it arrived.
struct ServedCall {
  std::string path;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;
  int connection = 0;  // from 0, in the order of arrival

  // Value of the field `name`, or empty.
  [[nodiscard]] std::string Field(const std::string& name) const;
  // The message of a gRPC call, as it was packed.
  [[nodiscard]] std::string Message() const { return body.size() < 5 ? "" : body.substr(5); }
};

// What the server does with a request. A response without trailers ends with its body.
struct CallReply {
  enum class Then : std::uint8_t {
    kKeepAlive,
    kClose,   // after the response
    kReset,   // of the connection, instead of a response
    kHold,    // says nothing more until the server ends
    kGoAway,  // instead of a response, taking no stream
    kRaw      // sends `body` as bytes of the connection, and closes
  };
  using Fields = std::vector<std::pair<std::string, std::string>>;
  Fields header = {{":status", "200"}, {"content-type", "application/grpc"}};
  std::string body{};
  Fields trailers{};
  std::optional<std::uint32_t> reset_code{};  // of the stream, after header and body
  Then then = Then::kKeepAlive;
};

// `message` as the answer to a gRPC call, with status OK.
CallReply GrpcOk(const std::string& message = "");
// An answer of trailers only.
CallReply GrpcFailure(int status, const std::string& text = "", const std::string& details = "");

// ScriptedHttp2Server answers HTTP/2 on loopback with what `script` says, by nghttp2; with
// TLS and ALPN h2 if it is given a context. A thread per connection. For tests of clients
// and exporters.
class ScriptedHttp2Server {
 public:
  using Script = std::function<CallReply(const ServedCall&)>;

  explicit ScriptedHttp2Server(Script script, bssl::UniquePtr<SSL_CTX> tls = nullptr);
  ScriptedHttp2Server(const ScriptedHttp2Server&) = delete;
  ScriptedHttp2Server& operator=(const ScriptedHttp2Server&) = delete;
  ~ScriptedHttp2Server();

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url() const;
  [[nodiscard]] std::vector<ServedCall> calls() const;
  [[nodiscard]] int connections() const { return connections_; }
  // Waits until `count` requests have been answered; false after 20 s.
  [[nodiscard]] bool WaitForCalls(std::size_t count) const;

 private:
  friend class ServedConnection;
  void Accept();
  [[nodiscard]] CallReply Answer(const ServedCall& call);
  void NoteAnswered();

  Script script_;
  bssl::UniquePtr<SSL_CTX> tls_;
  std::uint16_t port_ = 0;  // filled in when listener_ is made
  base::UniqueFd listener_;
  mutable std::mutex mutex_;
  mutable std::condition_variable arrived_;
  std::vector<ServedCall> calls_;
  std::size_t answered_ = 0;
  std::list<base::UniqueFd> sockets_;
  std::list<std::thread> threads_;
  std::atomic<int> connections_{0};
  std::thread acceptor_;
};

}  // namespace weir::test
