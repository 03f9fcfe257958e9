#include "tests/support/scripted_http2_server.h"

#include <nghttp2/nghttp2.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <string_view>

#include "agent/base/check.h"
#include "agent/base/ip.h"

namespace weir::test {
namespace {

using Then = CallReply::Then;

base::UniqueFd Listen(std::uint16_t& port) {
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto raw = base::ToSockaddr(*base::Endpoint::Parse("127.0.0.1:0"));
  WEIR_CHECK(::bind(fd.get(), raw.get(), raw.length) == 0);
  WEIR_CHECK(::listen(fd.get(), 16) == 0);
  port = base::LocalEndpoint(fd.get())->port;
  return fd;
}

std::vector<nghttp2_nv> ToNghttp2(const CallReply::Fields& fields) {
  std::vector<nghttp2_nv> out;
  for (const auto& [name, value] : fields) {
    out.push_back({.name = reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                   .value = reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
                   .namelen = name.size(),
                   .valuelen = value.size(),
                   .flags = NGHTTP2_NV_FLAG_NONE});
  }
  return out;
}

int ChooseH2(SSL* /*ssl*/, const std::uint8_t** out, std::uint8_t* out_size, const std::uint8_t* in,
             unsigned in_size, void* /*self*/) {
  static const std::array<std::uint8_t, 3> kH2 = {2, 'h', '2'};
  return SSL_select_next_proto(const_cast<std::uint8_t**>(out), out_size, kH2.data(), kH2.size(),
                               in, in_size) == OPENSSL_NPN_NEGOTIATED
             ? SSL_TLSEXT_ERR_OK
             : SSL_TLSEXT_ERR_NOACK;
}

}  // namespace

// One accepted connection, served by its own thread.
class ServedConnection {
 public:
  ServedConnection(ScriptedHttp2Server& server, int fd, int number)
      : server_(server), fd_(fd), number_(number) {}

  void Run() {
    if (server_.tls_ != nullptr) {
      ssl_.reset(::SSL_new(server_.tls_.get()));
      ::SSL_set_fd(ssl_.get(), fd_);
      if (::SSL_accept(ssl_.get()) != 1) {
        return;
      }
    }
    nghttp2_session_callbacks* callbacks = nullptr;
    WEIR_CHECK(::nghttp2_session_callbacks_new(&callbacks) == 0);
    ::nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    ::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    ::nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    WEIR_CHECK(::nghttp2_session_server_new(&session_, callbacks, this) == 0);
    ::nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry window{.settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                        .value = 1U << 20U};
    (void)::nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
    (void)::nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, 1 << 22);
    Loop();
    ::nghttp2_session_del(session_);
  }

 private:
  static int OnHeader(nghttp2_session* /*session*/, const nghttp2_frame* frame,
                      const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                      std::size_t value_size, std::uint8_t /*flags*/, void* self) {
    ServedCall& call = static_cast<ServedConnection*>(self)->calls_[frame->hd.stream_id];
    call.fields.emplace_back(std::string(name, name + name_size),
                             std::string(value, value + value_size));
    return 0;
  }
  static int OnData(nghttp2_session* /*session*/, std::uint8_t /*flags*/, std::int32_t stream_id,
                    const std::uint8_t* data, std::size_t size, void* self) {
    static_cast<ServedConnection*>(self)->calls_[stream_id].body.append(data, data + size);
    return 0;
  }
  static int OnFrame(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* self) {
    const bool can_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (can_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      static_cast<ServedConnection*>(self)->Take(frame->hd.stream_id);
    }
    return 0;
  }
  static ssize_t OnBody(nghttp2_session* session, std::int32_t stream_id, std::uint8_t* room,
                        std::size_t size, std::uint32_t* flags, nghttp2_data_source* source,
                        void* /*self*/) {
    auto& reply = *static_cast<Reply*>(source->ptr);
    const std::size_t count = std::min(size, reply.unsent.size());
    std::ranges::copy(reply.unsent.substr(0, count), room);
    reply.unsent.remove_prefix(count);
    if (reply.unsent.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (reply.what.reset_code) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        (void)::nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id,
                                          *reply.what.reset_code);
      } else if (!reply.what.trailers.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto trailers = ToNghttp2(reply.what.trailers);
        (void)::nghttp2_submit_trailer(session, stream_id, trailers.data(), trailers.size());
      }
    }
    return static_cast<ssize_t>(count);
  }

  struct Reply {
    CallReply what;
    std::string_view unsent{};
  };

  void Take(std::int32_t stream_id) {
    ServedCall& call = calls_[stream_id];
    call.connection = number_;
    call.path = call.Field(":path");
    Reply& reply = *replies_.emplace_back(std::make_unique<Reply>());
    reply.what = server_.Answer(call);
    then_ = reply.what.then;
    if (then_ == Then::kRaw) {
      raw_ = reply.what.body;
    } else if (then_ == Then::kGoAway) {
      (void)::nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, std::max(stream_id - 2, 0), 0,
                                    nullptr, 0);
    } else if (then_ == Then::kKeepAlive || then_ == Then::kClose) {
      reply.unsent = reply.what.body;
      const bool is_header_only =
          reply.what.body.empty() && reply.what.trailers.empty() && !reply.what.reset_code;
      nghttp2_data_provider body{.source = {.ptr = &reply}, .read_callback = OnBody};
      const auto header = ToNghttp2(reply.what.header);
      (void)::nghttp2_submit_response(session_, stream_id, header.data(), header.size(),
                                      is_header_only ? nullptr : &body);
    }
  }

  bool Write(std::string_view data) {
    while (!data.empty()) {
      const ssize_t count =
          ssl_ != nullptr ? ::SSL_write(ssl_.get(), data.data(), static_cast<int>(data.size()))
                          : ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (count <= 0) {
        return false;
      }
      data.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }

  bool Flush() {
    for (;;) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = ::nghttp2_session_mem_send(session_, &data);
      if (size <= 0) {
        return size == 0;
      }
      if (!Write({reinterpret_cast<const char*>(data), static_cast<std::size_t>(size)})) {
        return false;
      }
    }
  }

  // Whether to go on once a reply has been sent.
  bool Act() {
    const Then then = std::exchange(then_, Then::kKeepAlive);
    if (then == Then::kReset) {
      // Connecting a TCP socket to AF_UNSPEC drops its connection with a reset.
      sockaddr unspecified{};
      unspecified.sa_family = AF_UNSPEC;
      (void)::connect(fd_, &unspecified, sizeof(unspecified));
      return false;
    }
    if (then == Then::kRaw) {
      (void)Write(raw_);
      return false;
    }
    return Flush() && then != Then::kClose;
  }

  void Loop() {
    std::array<char, 65536> chunk{};
    bool is_open = Flush();
    while (is_open) {
      const ssize_t count =
          ssl_ != nullptr ? ::SSL_read(ssl_.get(), chunk.data(), static_cast<int>(chunk.size()))
                          : ::recv(fd_, chunk.data(), chunk.size(), 0);
      if (count <= 0 ||
          ::nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(chunk.data()),
                                     static_cast<std::size_t>(count)) < 0) {
        break;
      }
      const std::size_t taken = replies_.size();
      is_open = Act();
      for (; answered_ < taken; ++answered_) {
        server_.NoteAnswered();
      }
    }
    (void)::shutdown(fd_, SHUT_RDWR);
  }

  ScriptedHttp2Server& server_;
  const int fd_;
  const int number_;
  bssl::UniquePtr<SSL> ssl_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, ServedCall> calls_;
  std::vector<std::unique_ptr<Reply>> replies_;
  std::size_t answered_ = 0;
  Then then_ = Then::kKeepAlive;
  std::string raw_;
};

std::string ServedCall::Field(const std::string& name) const {
  const auto found = std::ranges::find(fields, name, [](const auto& field) { return field.first; });
  return found == fields.end() ? std::string() : found->second;
}

CallReply GrpcOk(const std::string& message) {
  CallReply reply;
  reply.body += '\0';
  for (int shift = 24; shift >= 0; shift -= 8) {
    reply.body += static_cast<char>(message.size() >> static_cast<unsigned>(shift));
  }
  reply.body += message;
  reply.trailers = {{"grpc-status", "0"}};
  return reply;
}

CallReply GrpcFailure(int status, const std::string& text, const std::string& details) {
  CallReply reply;
  reply.header.emplace_back("grpc-status", std::to_string(status));
  if (!text.empty()) {
    reply.header.emplace_back("grpc-message", text);
  }
  if (!details.empty()) {
    reply.header.emplace_back("grpc-status-details-bin", details);
  }
  return reply;
}

ScriptedHttp2Server::ScriptedHttp2Server(Script script, bssl::UniquePtr<SSL_CTX> tls)
    : script_(std::move(script)),
      tls_(std::move(tls)),
      listener_(Listen(port_)),
      acceptor_([this] { Accept(); }) {
  if (tls_ != nullptr) {
    ::SSL_CTX_set_alpn_select_cb(tls_.get(), ChooseH2, nullptr);
  }
}

ScriptedHttp2Server::~ScriptedHttp2Server() {
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

std::string ScriptedHttp2Server::url() const {
  return (tls_ != nullptr ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port_);
}

std::vector<ServedCall> ScriptedHttp2Server::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

bool ScriptedHttp2Server::WaitForCalls(std::size_t count) const {
  std::unique_lock lock(mutex_);
  return arrived_.wait_for(lock, std::chrono::seconds(20), [&] { return answered_ >= count; });
}

CallReply ScriptedHttp2Server::Answer(const ServedCall& call) {
  const std::lock_guard lock(mutex_);
  calls_.push_back(call);
  return script_(call);
}

void ScriptedHttp2Server::NoteAnswered() {
  {
    const std::lock_guard lock(mutex_);
    ++answered_;
  }
  arrived_.notify_all();
}

void ScriptedHttp2Server::Accept() {
  for (;;) {
    base::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) {
      return;
    }
    const int raw = fd.get();
    const int number = connections_++;
    const std::lock_guard lock(mutex_);
    sockets_.push_back(std::move(fd));
    threads_.emplace_back([this, raw, number] { ServedConnection(*this, raw, number).Run(); });
  }
}

}  // namespace weir::test
