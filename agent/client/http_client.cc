#include "agent/client/http_client.h"

#include <array>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/span_body.hpp>
#include <boost/beast/http/write.hpp>
#include <exception>
#include <optional>

#include "agent/client/transport.h"

namespace weir::client {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using base::Error;
using base::ErrorCode;
using base::MakeError;
using boost::system::error_code;
using ResponseParser = http::response_parser<http::buffer_body>;

constexpr std::size_t kChunkBytes = 16U << 10U;
constexpr int kMaxInterimResponses = 8;  // 1xx answers before the final one

}  // namespace

class HttpConnection::Impl {
 public:
  explicit Impl(HttpPeer peer) : transport_(std::move(peer), /*alpn=*/"") {}

  const HttpPeer& peer() const { return transport_.peer(); }
  void Cancel() noexcept { transport_.Cancel(); }

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
      return MakeError(ErrorCode::kInternal,
                       "HTTP exchange with " + transport_.Name() + ": " + error.what());
    }
  }

 private:
  void Close() {
    transport_.Close();
    buffer_.clear();
  }

  Error ToError(std::string_view verb, const error_code& failure) const {
    const std::string what = std::string(verb) + " " + transport_.Name() + ": ";
    if (failure == http::error::end_of_stream || failure == http::error::partial_message) {
      return transport_.ToError(verb, boost::asio::error::eof);
    }
    if (failure == http::error::body_limit || failure == http::error::header_limit ||
        failure == http::error::buffer_overflow) {
      return {ErrorCode::kLimit, what + "the answer is beyond the limit of its size"};
    }
    if (failure.category() == make_error_code(http::error::bad_version).category()) {
      return {ErrorCode::kProtocol, what + "the answer is not HTTP (" + failure.message() + ")"};
    }
    return transport_.ToError(verb, failure);
  }

  error_code Write(const HttpRequest& request, SteadyTime deadline) {
    const http::verb verb = http::string_to_verb(request.method);
    http::request<http::span_body<const char>> message{verb, request.target, 11};
    message.body() = {request.body.data(), request.body.size()};
    for (const auto& [name, value] : request.headers) {
      message.insert(name, value);
    }
    message.set(http::field::host, peer().authority());
    if (!request.body.empty() || verb == http::verb::post || verb == http::verb::put) {
      message.content_length(request.body.size());
    }
    return transport_.Run(deadline, [&](auto done) {
      http::async_write(transport_.stream(), message, std::move(done));
    });
  }

  // Reads up to the end of the final response's header.
  error_code ReadHeader(std::optional<ResponseParser>& parser, std::size_t limit_bytes,
                        SteadyTime deadline) {
    for (int i = 0; i <= kMaxInterimResponses; ++i) {
      parser.emplace();
      parser->header_limit(static_cast<std::uint32_t>(limit_bytes));
      parser->body_limit(boost::none);  // whoever takes the body bounds it
      const error_code failure = transport_.Run(deadline, [&](auto done) {
        http::async_read_header(transport_.stream(), buffer_, *parser, std::move(done));
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
      error_code failure = transport_.Run(deadline, [&](auto done) {
        http::async_read_some(transport_.stream(), buffer_, parser, std::move(done));
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
    if (const auto checked = CheckRequest(request); !checked) {
      return std::unexpected(checked.error());
    }
    // What can be read before a request is the end of the connection, or nobody asked for it.
    if (buffer_.size() != 0 || !transport_.IsQuiet()) {
      buffer_.clear();
      if (const auto connected = transport_.Connect(deadline); !connected) {
        Close();
        return std::unexpected(connected.error());
      }
    }
    // A server that refuses a body early closes while it is being sent: its answer, if
    // there is one, says more than the broken pipe.
    const error_code unsent = Write(request, deadline);
    if (unsent == boost::asio::error::timed_out || !transport_.is_open()) {
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

  Transport transport_;
  beast::flat_buffer buffer_;
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
