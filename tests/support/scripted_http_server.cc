#include "tests/support/scripted_http_server.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstring>

#include "agent/base/check.h"
#include "agent/base/ip.h"

namespace weir::test {
namespace {

base::UniqueFd Listen(const std::string& unix_path, std::uint16_t& port) {
  if (!unix_path.empty()) {
    base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, unix_path.data(), unix_path.size());
    WEIR_CHECK(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    WEIR_CHECK(::listen(fd.get(), 16) == 0);
    return fd;
  }
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto raw = base::ToSockaddr(*base::Endpoint::Parse("127.0.0.1:0"));
  WEIR_CHECK(::bind(fd.get(), raw.get(), raw.length) == 0);
  WEIR_CHECK(::listen(fd.get(), 16) == 0);
  port = base::LocalEndpoint(fd.get())->port;
  return fd;
}

std::string Lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::string ServedRequest::Field(const std::string& name) const {
  const std::string key = "\r\n" + Lower(name) + ":";
  const std::size_t at = Lower(head).find(key);
  if (at == std::string::npos) {
    return {};
  }
  const std::size_t begin = head.find_first_not_of(' ', at + key.size());
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

ServedReply Respond(int status, const std::string& body, const std::string& fields) {
  return {{"HTTP/1.1 " + std::to_string(status) + " Text\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body}};
}

ScriptedHttpServer::ScriptedHttpServer(Script script, const std::string& unix_path)
    : script_(std::move(script)),
      listener_(Listen(unix_path, port_)),
      acceptor_([this] { Accept(); }) {}

ScriptedHttpServer::~ScriptedHttpServer() {
  ::shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const base::UniqueFd& fd : sockets_) {
      ::shutdown(fd.get(), SHUT_RDWR);
    }
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

std::string ScriptedHttpServer::url(const std::string& path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + path;
}

std::vector<ServedRequest> ScriptedHttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

bool ScriptedHttpServer::WaitForRequests(std::size_t count) const {
  std::unique_lock lock(mutex_);
  return arrived_.wait_for(lock, std::chrono::seconds(20), [&] { return answered_ >= count; });
}

void ScriptedHttpServer::Accept() {
  for (;;) {
    base::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) {
      return;
    }
    const int raw = fd.get();
    const int connection = connections_++;
    const std::lock_guard lock(mutex_);
    sockets_.push_back(std::move(fd));
    threads_.emplace_back([this, raw, connection] { Serve(raw, connection); });
  }
}

void ScriptedHttpServer::Serve(int fd, int connection) {
  std::string pending;
  std::array<char, 65536> chunk{};
  for (;;) {
    const std::size_t end = pending.find("\r\n\r\n");
    ServedRequest request{.head = pending.substr(0, end), .body = {}, .connection = connection};
    const std::string length = request.Field("content-length");
    const std::size_t size = length.empty() ? 0 : std::stoul(length);
    if (end == std::string::npos || pending.size() < end + 4 + size) {
      const ssize_t count = ::recv(fd, chunk.data(), chunk.size(), 0);
      if (count <= 0) {
        break;
      }
      pending.append(chunk.data(), static_cast<std::size_t>(count));
      continue;
    }
    request.body = pending.substr(end + 4, size);
    pending.erase(0, end + 4 + size);
    ServedReply reply;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      reply = script_(request);
    }
    const bool keep = Act(fd, reply);
    {
      const std::lock_guard lock(mutex_);
      ++answered_;
    }
    arrived_.notify_all();
    if (!keep) {
      break;
    }
  }
  ::shutdown(fd, SHUT_RDWR);
}

bool ScriptedHttpServer::Act(int fd, const ServedReply& reply) const {
  for (const std::string& piece : reply.pieces) {
    if (::send(fd, piece.data(), piece.size(), MSG_NOSIGNAL) < 0) {
      return false;
    }
  }
  switch (reply.then) {
    case ServedReply::Then::kKeepAlive:
    case ServedReply::Then::kHold:
      return true;  // the next recv waits for the peer, or for the end of the server
    case ServedReply::Then::kClose:
      return false;
    case ServedReply::Then::kReset: {
      // Connecting a TCP socket to AF_UNSPEC drops its connection with a reset.
      sockaddr unspecified{};
      unspecified.sa_family = AF_UNSPEC;
      (void)::connect(fd, &unspecified, sizeof(unspecified));
      return false;
    }
  }
  return false;
}

}  // namespace weir::test
