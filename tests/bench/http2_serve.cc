// The upstream of the HTTP/2 benchmarks: as cheap as nghttp2 makes it.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <unordered_map>

#include "agent/io/socket.h"
#include "tests/bench/http2_end.h"
#include "tests/bench/load.h"

namespace weir::bench {
namespace {

using Field = std::pair<std::string_view, std::string_view>;

class Server;

class ServedConnection final : public Http2End {
 public:
  ServedConnection(io::EventLoop& loop, Server& server) : Http2End(loop), server_(server) {}
  bool Serve(base::UniqueFd fd) { return Start(std::move(fd), Role::kServer); }

 private:
  struct Stream {
    bool is_grpc = false;
    bool has_ended = false;  // the client has sent all
    bool is_waiting = false;
    std::string to_send;
    std::size_t sent = 0;
  };

  void OnHeader(std::int32_t stream, std::string_view name, std::string_view value) override {
    if (name == "content-type" && value.starts_with("application/grpc")) {
      streams_[stream].is_grpc = true;
    }
  }
  void OnHead(std::int32_t id) override {
    static constexpr std::array<Field, 3> kPage = {
        Field{":status", "200"}, {"content-type", "text/plain"}, {"content-length", "128"}};
    static constexpr std::array<Field, 2> kEcho = {Field{":status", "200"},
                                                   {"content-type", "application/grpc"}};
    Stream& stream = streams_[id];
    const auto fields = stream.is_grpc ? FieldList(kEcho) : FieldList(kPage);
    if (!stream.is_grpc) {
      stream.to_send.assign(kPageBytes, 'x');
    }
    nghttp2_submit_response(session(), id, fields.data(), fields.size(), &kProvider);
  }
  void OnData(std::int32_t id, std::string_view bytes) override {
    Stream& stream = streams_[id];
    if (stream.is_grpc) {
      stream.to_send.append(bytes);
      Resume(id, stream);
    }
  }
  void OnEnd(std::int32_t id) override {
    Stream& stream = streams_[id];
    stream.has_ended = true;
    Resume(id, stream);
  }
  void OnClosed(std::int32_t id, std::uint32_t) override { streams_.erase(id); }
  void OnBroken() override;

  void Resume(std::int32_t id, Stream& stream) {
    if (std::exchange(stream.is_waiting, false)) {
      nghttp2_session_resume_data(session(), id);
    }
  }

  ssize_t ReadData(std::int32_t id, std::uint8_t* out, std::size_t room,
                   std::uint32_t* flags) override {
    Stream& stream = streams_[id];
    const std::size_t count = std::min(room, stream.to_send.size() - stream.sent);
    std::copy_n(stream.to_send.data() + stream.sent, count, out);
    stream.sent += count;
    if (stream.sent < stream.to_send.size()) {
      return static_cast<ssize_t>(count);
    }
    stream.to_send.clear();
    stream.sent = 0;
    if (!stream.is_grpc) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (stream.has_ended) {
      static constexpr std::array<Field, 1> kTrailers = {Field{"grpc-status", "0"}};
      const auto fields = FieldList(kTrailers);
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      nghttp2_submit_trailer(session(), id, fields.data(), fields.size());
    } else if (count == 0) {
      stream.is_waiting = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(count);
  }

  Server& server_;
  std::unordered_map<std::int32_t, Stream> streams_;
};

class Server final : public io::EventHandler {
 public:
  explicit Server(io::EventLoop& loop) : loop_(loop) {}
  virtual ~Server() = default;

  bool Listen(const base::Endpoint& address) {
    auto fd = io::ListenTcp(address, /*backlog=*/4096);
    if (!fd) {
      std::fprintf(stderr, "%s\n", fd.error().ToString().c_str());
      return false;
    }
    fd_ = std::move(*fd);
    auto watch = loop_.Add(fd_.get(), EPOLLIN, *this);
    if (watch) {
      watch_ = std::move(*watch);
    }
    return watch.has_value();
  }
  void Forget(ServedConnection* connection) { connections_.erase(connection); }

 private:
  void OnEvents(std::uint32_t) noexcept override {
    for (;;) {
      base::UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        return;
      }
      auto connection = std::make_unique<ServedConnection>(loop_, *this);
      if (connection->Serve(std::move(fd))) {
        connections_.emplace(connection.get(), std::move(connection));
      }
    }
  }

  io::EventLoop& loop_;
  base::UniqueFd fd_;
  io::Watch watch_;
  std::unordered_map<ServedConnection*, std::unique_ptr<ServedConnection>> connections_;
};

void ServedConnection::OnBroken() {
  server_.Forget(this);
}

}  // namespace

int ServeHttp2(io::EventLoop& loop, const Options& options) {
  Server server(loop);
  if (!server.Listen(options.target)) {
    return 1;
  }
  loop.Run();
  return 0;
}

}  // namespace weir::bench
