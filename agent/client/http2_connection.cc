#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <exception>
#include <memory>
#include <string>

#include "agent/client/transport.h"

namespace weir::client {
namespace {

using base::Error;
using base::ErrorCode;
using base::MakeError;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = 32U << 10U;
constexpr std::size_t kWriteBytes = 64U << 10U;    // gathered before a send
constexpr std::uint32_t kWindowBytes = 1U << 20U;  // of a response
constexpr milliseconds kIdleReadTime{100};         // for frames that came between two requests

struct SessionDeleter {
  void operator()(nghttp2_session* session) const { ::nghttp2_session_del(session); }
};
using Session = std::unique_ptr<nghttp2_session, SessionDeleter>;

std::string_view Text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

nghttp2_nv Field(std::string_view name, std::string_view value) {
  // nghttp2 copies both and changes neither; its struct knows no const.
  return {.name = reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          .value = reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
          .namelen = name.size(),
          .valuelen = value.size(),
          .flags = NGHTTP2_NV_FLAG_NONE};
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return lower;
}

// One request and what has come of it.
struct Exchange {
  std::int32_t stream_id = 0;
  std::string_view unsent;  // of the request's body, which outlives the exchange
  HttpLimits limits;
  HttpResponse response{};
  std::size_t header_bytes = 0;
  bool has_final_header = false;  // the header of a response that is not 1xx is whole
  bool is_complete = false;       // the response is
  bool is_closed = false;         // the stream is
  bool is_beyond_limit = false;
};

}  // namespace

class Http2Connection::Impl {
 public:
  explicit Impl(HttpPeer peer) : transport_(std::move(peer), /*alpn=*/"h2") {}

  void Cancel() noexcept { transport_.Cancel(); }

  base::Result<HttpResponse> Send(const HttpRequest& request, const HttpLimits& limits) noexcept {
    try {
      auto response = TrySend(request, limits);
      if (!response) {
        Close();
      }
      return response;
    } catch (const std::exception& error) {
      Close();
      return MakeError(ErrorCode::kInternal,
                       "HTTP/2 exchange with " + transport_.Name() + ": " + error.what());
    }
  }

 private:
  void Close() {
    session_.reset();
    exchange_ = nullptr;
    transport_.Close();
  }

  // nghttp2's callbacks; `self` is the Impl.
  static int OnHeader(nghttp2_session* /*session*/, const nghttp2_frame* frame,
                      const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                      std::size_t value_size, std::uint8_t /*flags*/, void* self) {
    return static_cast<Impl*>(self)->TakeHeader(frame->hd.stream_id, Text(name, name_size),
                                                Text(value, value_size));
  }
  static int OnData(nghttp2_session* /*session*/, std::uint8_t /*flags*/, std::int32_t stream_id,
                    const std::uint8_t* data, std::size_t size, void* self) {
    return static_cast<Impl*>(self)->TakeData(stream_id, Text(data, size));
  }
  static int OnFrame(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* self) {
    static_cast<Impl*>(self)->TakeFrame(*frame);
    return 0;
  }
  static int OnClose(nghttp2_session* /*session*/, std::int32_t stream_id, std::uint32_t code,
                     void* self) {
    static_cast<Impl*>(self)->TakeClose(stream_id, code);
    return 0;
  }
  static ssize_t OnBody(nghttp2_session* /*session*/, std::int32_t /*stream_id*/,
                        std::uint8_t* room, std::size_t size, std::uint32_t* flags,
                        nghttp2_data_source* source, void* /*self*/) {
    std::string_view& unsent = static_cast<Exchange*>(source->ptr)->unsent;
    const std::size_t count = std::min(size, unsent.size());
    std::ranges::copy(unsent.substr(0, count), room);
    unsent.remove_prefix(count);
    if (unsent.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return static_cast<ssize_t>(count);
  }

  [[nodiscard]] bool IsMine(std::int32_t stream_id) const {
    return exchange_ != nullptr && exchange_->stream_id == stream_id;
  }

  int TakeHeader(std::int32_t stream_id, std::string_view name, std::string_view value) {
    if (!IsMine(stream_id)) {
      return 0;
    }
    Exchange& exchange = *exchange_;
    exchange.header_bytes += name.size() + value.size() + 32;  // RFC 9113 section 6.5.2
    if (exchange.header_bytes > exchange.limits.header_bytes) {
      exchange.is_beyond_limit = true;
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
    }
    HttpResponse& response = exchange.response;
    if (exchange.has_final_header) {
      response.trailers.emplace_back(name, value);
    } else if (name == ":status") {  // three digits: nghttp2 refuses others
      response.status = 0;
      response.headers.clear();  // of an interim response
      for (const char digit : value) {
        response.status = response.status * 10 + static_cast<unsigned>(digit - '0');
      }
    } else {
      response.headers.emplace_back(name, value);
    }
    return 0;
  }

  int TakeData(std::int32_t stream_id, std::string_view data) {
    if (!IsMine(stream_id)) {
      return 0;
    }
    std::string& body = exchange_->response.body;
    if (body.size() + data.size() > exchange_->limits.body_bytes) {
      exchange_->is_beyond_limit = true;
      return NGHTTP2_ERR_CALLBACK_FAILURE;  // ends the connection
    }
    body += data;
    return 0;
  }

  void TakeFrame(const nghttp2_frame& frame) {
    if (!IsMine(frame.hd.stream_id)) {
      return;
    }
    if (frame.hd.type == NGHTTP2_HEADERS && exchange_->response.status >= 200) {
      exchange_->has_final_header = true;
    }
    const bool can_end = frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA;
    if (can_end && (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      exchange_->is_complete = true;
    }
  }

  void TakeClose(std::int32_t stream_id, std::uint32_t code) {
    if (!IsMine(stream_id)) {
      return;
    }
    exchange_->is_closed = true;
    if (!exchange_->is_complete) {
      exchange_->response.reset_code = code;
    }
  }

  base::Result<void> StartSession() {
    nghttp2_session_callbacks* raw = nullptr;
    nghttp2_option* options = nullptr;
    nghttp2_session* session = nullptr;
    int failure = ::nghttp2_session_callbacks_new(&raw);
    if (failure == 0) {
      ::nghttp2_session_callbacks_set_on_header_callback(raw, OnHeader);
      ::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(raw, OnData);
      ::nghttp2_session_callbacks_set_on_frame_recv_callback(raw, OnFrame);
      ::nghttp2_session_callbacks_set_on_stream_close_callback(raw, OnClose);
      failure = ::nghttp2_option_new(&options);
    }
    if (failure == 0) {
      ::nghttp2_option_set_max_send_header_block_length(options, 256U << 10U);
      failure = ::nghttp2_session_client_new2(&session, raw, this, options);
    }
    ::nghttp2_option_del(options);
    ::nghttp2_session_callbacks_del(raw);
    session_.reset(session);
    if (failure == 0) {
      const std::array<nghttp2_settings_entry, 3> settings = {{
          {.settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH, .value = 0},
          {.settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, .value = kWindowBytes},
          {.settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, .value = 64U << 10U},
      }};
      failure = ::nghttp2_submit_settings(session_.get(), NGHTTP2_FLAG_NONE, settings.data(),
                                          settings.size());
    }
    return failure == 0 ? base::Result<void>{} : Internal("start", failure);
  }

  std::unexpected<Error> Internal(std::string_view verb, int failure) const {
    return MakeError(ErrorCode::kInternal, "HTTP/2 to " + transport_.Name() + ": " +
                                               std::string(verb) + ": " +
                                               ::nghttp2_strerror(failure));
  }

  // Whether the kept connection can carry another request. Takes in what the server sent
  // since the last one: settings, pings, or that it goes away.
  bool IsReusable() {
    if (session_ == nullptr || !transport_.is_open()) {
      return false;
    }
    const SteadyTime until = std::chrono::steady_clock::now() + kIdleReadTime;
    while (!transport_.IsQuiet()) {
      if (!ReadSome(until).has_value()) {
        return false;
      }
    }
    return ::nghttp2_session_check_request_allowed(session_.get()) != 0 &&
           ::nghttp2_session_want_read(session_.get()) != 0;
  }

  base::Result<void> Open(SteadyTime deadline) {
    if (IsReusable()) {
      return {};
    }
    Close();
    if (auto connected = transport_.Connect(deadline); !connected) {
      return connected;
    }
    return StartSession();
  }

  base::Result<void> Submit(const HttpRequest& request, Exchange& exchange) {
    const std::string authority = transport_.peer().authority();
    const std::string length = std::to_string(request.body.size());
    std::vector<std::string> names;
    names.reserve(request.headers.size());
    std::vector<nghttp2_nv> fields = {
        Field(":method", request.method),
        Field(":scheme", transport_.peer().tls ? "https" : "http"),
        Field(":authority", authority),
        Field(":path", request.target),
    };
    for (const auto& [name, value] : request.headers) {
      fields.push_back(Field(names.emplace_back(Lower(name)), value));
    }
    fields.push_back(Field("content-length", length));
    nghttp2_data_provider body{.source = {.ptr = &exchange}, .read_callback = OnBody};
    exchange.stream_id =
        ::nghttp2_submit_request(session_.get(), nullptr, fields.data(), fields.size(),
                                 request.body.empty() ? nullptr : &body, nullptr);
    return exchange.stream_id > 0 ? base::Result<void>{} : Internal("send", exchange.stream_id);
  }

  // Sends what the session has to send; false if there was nothing.
  base::Result<bool> WriteSome(SteadyTime deadline) {
    out_.clear();
    while (out_.size() < kWriteBytes) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = ::nghttp2_session_mem_send(session_.get(), &data);
      if (size < 0) {
        return Internal("send", static_cast<int>(size));
      }
      if (size == 0) {
        break;
      }
      out_ += Text(data, static_cast<std::size_t>(size));
    }
    if (out_.empty()) {
      return false;
    }
    const error_code failure = transport_.Run(deadline, [&](auto done) {
      boost::asio::async_write(transport_.stream(), boost::asio::buffer(out_), std::move(done));
    });
    if (failure) {
      return std::unexpected(transport_.ToError("send to", failure));
    }
    return true;
  }

  base::Result<void> ReadSome(SteadyTime deadline) {
    std::size_t size = 0;
    const error_code failure = transport_.Run(deadline, [&](auto done) {
      transport_.stream().async_read_some(
          boost::asio::buffer(in_), [&size, done](const error_code& error, std::size_t count) {
            size = count;
            done(error);
          });
    });
    if (failure) {
      return std::unexpected(transport_.ToError("read from", failure));
    }
    const ssize_t taken = ::nghttp2_session_mem_recv(
        session_.get(), reinterpret_cast<const std::uint8_t*>(in_.data()), size);
    if (exchange_ != nullptr && exchange_->is_beyond_limit) {
      return MakeError(ErrorCode::kLimit, "read from " + transport_.Name() +
                                              ": the answer is beyond the limit of its size");
    }
    if (taken < 0) {
      return MakeError(ErrorCode::kProtocol, "read from " + transport_.Name() +
                                                 ": the answer is not HTTP/2 (" +
                                                 ::nghttp2_strerror(static_cast<int>(taken)) + ")");
    }
    return {};
  }

  base::Result<HttpResponse> TrySend(const HttpRequest& request, const HttpLimits& limits) {
    const SteadyTime deadline = std::chrono::steady_clock::now() + limits.timeout;
    if (const auto checked = CheckRequest(request); !checked) {
      return std::unexpected(checked.error());
    }
    if (const auto opened = Open(deadline); !opened) {
      return std::unexpected(opened.error());
    }
    Exchange exchange{.unsent = request.body, .limits = limits};
    if (const auto submitted = Submit(request, exchange); !submitted) {
      return std::unexpected(submitted.error());
    }
    exchange_ = &exchange;
    auto done = RunExchange(exchange, deadline);
    exchange_ = nullptr;
    if (!done) {
      return std::unexpected(done.error());
    }
    if (!exchange.is_closed || exchange.response.reset_code) {
      Close();  // the answer came before the request was read, or its stream was broken
    }
    return std::move(exchange.response);
  }

  base::Result<void> RunExchange(Exchange& exchange, SteadyTime deadline) {
    while (!exchange.is_complete && !exchange.is_closed) {
      const auto wrote = WriteSome(deadline);
      if (!wrote) {
        return std::unexpected(wrote.error());
      }
      const bool can_write = ::nghttp2_session_want_write(session_.get()) != 0;
      if (exchange.is_closed || (*wrote && can_write && transport_.IsQuiet())) {
        continue;  // sending a reset closes a stream as well
      }
      if (::nghttp2_session_want_read(session_.get()) == 0) {
        return MakeError(ErrorCode::kProtocol,
                         "read from " + transport_.Name() + ": the answer is not HTTP/2");
      }
      if (auto read = ReadSome(deadline); !read) {
        return read;
      }
    }
    return {};
  }

  Transport transport_;
  Session session_;
  Exchange* exchange_ = nullptr;  // the one under way
  std::string out_;
  std::array<char, kReadBytes> in_{};
};

Http2Connection::Http2Connection(HttpPeer peer) : impl_(std::make_unique<Impl>(std::move(peer))) {}

Http2Connection::~Http2Connection() = default;

base::Result<HttpResponse> Http2Connection::Send(const HttpRequest& request,
                                                 const HttpLimits& limits) {
  return impl_->Send(request, limits);
}

void Http2Connection::Cancel() noexcept {
  impl_->Cancel();
}

}  // namespace weir::client
