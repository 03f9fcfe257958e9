#include "agent/client/http_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/span_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cstring>
#include <exception>
#include <optional>

#include "agent/base/ip.h"
#include "agent/client/resolve.h"

namespace weir::client {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using base::Error;
using base::ErrorCode;
using base::MakeError;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;
using SteadyTime = std::chrono::steady_clock::time_point;
using ResponseParser = http::response_parser<http::buffer_body>;

constexpr std::size_t kChunkBytes = 16U << 10U;
constexpr int kMaxInterimResponses = 8;  // 1xx answers before the final one
constexpr std::string_view kCancelled = "cancelled";

bool IsToken(std::string_view text) {
  for (const char c : text) {
    const bool is_alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!is_alphanumeric && std::strchr("!#$%&'*+-.^_`|~", c) == nullptr) {
      return false;
    }
  }
  return !text.empty();
}

bool IsFieldValue(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
      return false;
    }
  }
  return true;
}

bool IsTarget(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c >= 0x7f) {
      return false;
    }
  }
  return text.starts_with('/');
}

base::Result<http::verb> CheckRequest(const HttpRequest& request) {
  const http::verb verb = http::string_to_verb(request.method);
  if (verb != http::verb::get && verb != http::verb::post && verb != http::verb::put &&
      verb != http::verb::delete_) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "HTTP method \"" + request.method + "\" is not one of the client's");
  }
  if (!IsTarget(request.target)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "HTTP target \"" + request.target + "\" is not a path");
  }
  for (const auto& [name, value] : request.headers) {
    if (!IsToken(name) || !IsFieldValue(value)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "HTTP header \"" + name + "\": its name or value is not allowed");
    }
  }
  return verb;
}

}  // namespace

// One io_context per connection, run by the calling thread until the operation in hand is
// done or its deadline has passed; Cancel posts to it from outside.
class HttpConnection::Impl {
 public:
  explicit Impl(HttpPeer peer) : peer_(std::move(peer)) {}

  const HttpPeer& peer() const { return peer_; }

  void Cancel() noexcept {
    cancelled_.store(true, std::memory_order_relaxed);
    asio::post(context_, [this] { Close(); });
  }

  // With `on_chunk` a 2xx body goes there, without it into the response.
  base::Result<HttpResponse> Exchange(const HttpRequest& request, const OnChunk* on_chunk,
                                      const HttpLimits& limits) noexcept {
    try {
      auto response = TryExchange(request, on_chunk, limits);
      if (!response || on_chunk != nullptr) {
        Close();
      }
      return response;
    } catch (const std::exception& error) {  // Beast throws on header fields beyond its bounds
      Close();
      return MakeError(ErrorCode::kInternal, "HTTP exchange with " + Name() + ": " + error.what());
    }
  }

 private:
  std::string Name() const {
    return peer_.unix_path.empty() ? peer_.host + ":" + std::to_string(peer_.port)
                                   : peer_.unix_path;
  }

  void Close() {
    error_code ignored;  // the socket is closed whatever this says
    socket_.close(ignored);
    buffer_.clear();
  }

  // Runs what `start` begins (it gets the completion handler) until done or `deadline`.
  template <typename Start>
  error_code Run(std::optional<SteadyTime> deadline, const Start& start) {
    if (cancelled_.load(std::memory_order_relaxed)) {
      return asio::error::operation_aborted;
    }
    std::optional<error_code> result;
    start([&result](const error_code& failure, auto&&...) { result = failure; });
    context_.restart();
    while (!result) {
      const std::size_t ran = deadline ? context_.run_one_until(*deadline) : context_.run_one();
      if (ran == 0 && !result) {
        Close();  // the operation ends with operation_aborted
        while (!result) {
          (void)context_.run_one();
        }
        return asio::error::timed_out;
      }
    }
    return *result;
  }

  Error ToError(std::string_view verb, const error_code& failure) const {
    const std::string what = std::string(verb) + " " + Name() + ": ";
    if (cancelled_.load(std::memory_order_relaxed)) {
      return {ErrorCode::kUnavailable, what + std::string(kCancelled)};
    }
    if (failure == asio::error::timed_out) {
      return {ErrorCode::kTimeout, what + "no answer in time"};
    }
    if (failure == http::error::end_of_stream || failure == http::error::partial_message) {
      return {ErrorCode::kUnavailable, what + "the peer closed the connection too early"};
    }
    if (failure == http::error::body_limit || failure == http::error::header_limit ||
        failure == http::error::buffer_overflow) {
      return {ErrorCode::kLimit, what + "the answer is beyond the limit of its size"};
    }
    if (failure.category() == make_error_code(http::error::bad_version).category()) {
      return {ErrorCode::kProtocol, what + "the answer is not HTTP (" + failure.message() + ")"};
    }
    const int number = failure.value();
    const ErrorCode code = number == ENOENT   ? ErrorCode::kNotFound
                           : number == EACCES ? ErrorCode::kPermission
                                              : ErrorCode::kUnavailable;
    return {code, what + failure.message(), number};
  }

  // Whether the kept connection can carry another request: open, and nothing to read,
  // which could only be the end of it or bytes that nobody asked for.
  bool IsReusable() {
    if (!socket_.is_open() || buffer_.size() != 0) {
      return false;
    }
    char byte = 0;
    return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
  }

  base::Result<std::vector<Protocol::endpoint>> Endpoints(SteadyTime deadline) {
    std::vector<Protocol::endpoint> endpoints;
    if (!peer_.unix_path.empty()) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      if (peer_.unix_path.size() >= sizeof(address.sun_path)) {
        return MakeError(ErrorCode::kInvalidArgument,
                         peer_.unix_path + ": longer than a Unix socket's path may be");
      }
      std::memcpy(address.sun_path, peer_.unix_path.data(), peer_.unix_path.size());
      endpoints.emplace_back(&address, sizeof(address));
      return endpoints;
    }
    const auto addresses = ResolveHost(peer_.host, deadline, cancelled_);
    if (!addresses) {
      return std::unexpected(addresses.error());
    }
    for (const base::IpAddress& address : *addresses) {
      const auto raw = base::ToSockaddr({.address = address, .port = peer_.port});
      endpoints.emplace_back(raw.get(), raw.length, IPPROTO_TCP);
    }
    return endpoints;
  }

  // Tries each address with its share of the time that is left.
  base::Result<void> Connect(SteadyTime deadline) {
    const auto endpoints = Endpoints(deadline);
    if (!endpoints) {
      return std::unexpected(endpoints.error());
    }
    error_code failure;
    std::size_t left = endpoints->size();
    for (const Protocol::endpoint& endpoint : *endpoints) {
      const SteadyTime now = std::chrono::steady_clock::now();
      const SteadyTime until = now + (deadline - now) / static_cast<long>(left--);
      Close();
      failure = Run(until, [&](auto done) { socket_.async_connect(endpoint, std::move(done)); });
      if (!failure) {
        return {};
      }
    }
    return std::unexpected(ToError("connect to", failure));
  }

  error_code Write(const HttpRequest& request, http::verb verb, SteadyTime deadline) {
    http::request<http::span_body<const char>> message{verb, request.target, 11};
    message.body() = {request.body.data(), request.body.size()};
    for (const auto& [name, value] : request.headers) {
      message.insert(name, value);
    }
    message.set(http::field::host, peer_.authority());
    if (!request.body.empty() || verb == http::verb::post || verb == http::verb::put) {
      message.content_length(request.body.size());
    }
    return Run(deadline, [&](auto done) { http::async_write(socket_, message, std::move(done)); });
  }

  // Reads up to the end of the final response's header.
  error_code ReadHeader(std::optional<ResponseParser>& parser, std::size_t limit_bytes,
                        SteadyTime deadline) {
    for (int i = 0; i <= kMaxInterimResponses; ++i) {
      parser.emplace();
      parser->header_limit(static_cast<std::uint32_t>(limit_bytes));
      parser->body_limit(boost::none);  // whoever takes the body bounds it
      const error_code failure = Run(deadline, [&](auto done) {
        http::async_read_header(socket_, buffer_, *parser, std::move(done));
      });
      if (failure || parser->get().result_int() >= 200 || parser->get().result_int() == 101) {
        return failure;
      }
    }
    return http::error::header_limit;
  }

  // Reads the body to its end, or until `take` returns false.
  template <typename Take>
  error_code ReadBody(ResponseParser& parser, std::optional<SteadyTime> deadline,
                      const Take& take) {
    std::array<char, kChunkBytes> chunk;
    while (!parser.is_done()) {
      parser.get().body().data = chunk.data();
      parser.get().body().size = chunk.size();
      error_code failure = Run(deadline, [&](auto done) {
        http::async_read_some(socket_, buffer_, parser, std::move(done));
      });
      if (failure == http::error::need_buffer) {
        failure = {};
      }
      const std::size_t size = chunk.size() - parser.get().body().size;
      if (failure || (size != 0 && !take(std::string_view(chunk.data(), size)))) {
        return failure;
      }
    }
    return {};
  }

  static HttpResponse Header(const ResponseParser& parser) {
    HttpResponse response{.status = parser.get().result_int()};
    for (const auto& field : parser.get()) {
      response.headers.emplace_back(field.name_string(), field.value());
    }
    return response;
  }

  base::Result<HttpResponse> TryExchange(const HttpRequest& request, const OnChunk* on_chunk,
                                         const HttpLimits& limits) {
    const SteadyTime deadline = std::chrono::steady_clock::now() + limits.timeout;
    const auto verb = CheckRequest(request);
    if (!verb) {
      return std::unexpected(verb.error());
    }
    if (!IsReusable()) {
      if (const auto connected = Connect(deadline); !connected) {
        return std::unexpected(connected.error());
      }
    }
    // A server that refuses a body early closes while it is being sent: its answer, if
    // there is one, says more than the broken pipe.
    const error_code unsent = Write(request, *verb, deadline);
    if (unsent == asio::error::timed_out || !socket_.is_open()) {
      return std::unexpected(ToError("send to", unsent));
    }
    std::optional<ResponseParser> parser;
    if (const error_code failure = ReadHeader(parser, limits.header_bytes, deadline)) {
      return std::unexpected(ToError("read from", unsent ? unsent : failure));
    }
    HttpResponse response = Header(*parser);
    error_code failure;
    if (on_chunk != nullptr && response.status / 100 == 2) {
      failure = ReadBody(*parser, std::nullopt, *on_chunk);
    } else {
      failure = ReadBody(*parser, deadline, [&](std::string_view chunk) {
        response.body += chunk;
        return response.body.size() <= limits.body_bytes;
      });
      if (response.body.size() > limits.body_bytes) {
        failure = http::error::body_limit;
      }
    }
    if (failure) {
      return std::unexpected(ToError("read from", failure));
    }
    if (unsent || !parser->keep_alive()) {
      Close();
    }
    return response;
  }

  const HttpPeer peer_;
  asio::io_context context_{1};
  asio::basic_stream_socket<Protocol> socket_{context_};
  beast::flat_buffer buffer_;
  std::atomic<bool> cancelled_{false};
};

HttpConnection::HttpConnection(HttpPeer peer) : impl_(std::make_unique<Impl>(std::move(peer))) {}

HttpConnection::~HttpConnection() = default;

base::Result<HttpResponse> HttpConnection::Send(const HttpRequest& request,
                                                const HttpLimits& limits) {
  return impl_->Exchange(request, nullptr, limits);
}

base::Result<HttpResponse> HttpConnection::Stream(const HttpRequest& request,
                                                  const OnChunk& on_chunk,
                                                  const HttpLimits& limits) {
  return impl_->Exchange(request, &on_chunk, limits);
}

void HttpConnection::Cancel() noexcept {
  impl_->Cancel();
}

const HttpPeer& HttpConnection::peer() const {
  return impl_->peer();
}

}  // namespace weir::client
