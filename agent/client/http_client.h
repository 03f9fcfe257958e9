#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.h"

// HTTP clients of the control plane, HTTP/1.1 and HTTP/2: one request at a time, in the caller's
// thread, with a deadline. Never on a worker.
namespace weir::client {

using HttpHeader = std::pair<std::string, std::string>;

// HttpUrl is a parsed http:// or https:// URL. Without a port the scheme's; without a path
// "/".
struct HttpUrl {
  std::string host;  // a name or an address, IPv6 without brackets
  std::uint16_t port = 80;
  std::string target = "/";  // path and query, as sent
  bool is_tls = false;       // https

  // "http://host[:port]" as for messages, without the target.
  [[nodiscard]] std::string origin() const;
  friend bool operator==(const HttpUrl&, const HttpUrl&) = default;
};

// Parses `url`. kInvalidArgument for anything that is not an http or https URL: other
// schemes, user information, a fragment, blanks, a bad port. Pure.
base::Result<HttpUrl> ParseHttpUrl(std::string_view url);

// PEM files of TLS towards a server, read anew for each connection.
struct TlsFiles {
  std::string roots{};        // whom to trust; empty: whom the machine trusts
  std::string certificate{};  // the client's own chain, with `key`; empty: none
  std::string key{};
  friend bool operator==(const TlsFiles&, const TlsFiles&) = default;
};

// HttpPeer is where a connection goes: a Unix socket if `unix_path` is set, else TCP to
// `host` (a name or an address) and `port`, with TLS 1.2 or 1.3 if `tls` is set: the
// server's certificate must be for `host`. `authority` is sent as Host.
struct HttpPeer {
  std::string host;
  std::uint16_t port = 0;
  std::string unix_path;
  std::optional<TlsFiles> tls{};

  static HttpPeer Tcp(std::string host, std::uint16_t port);
  // Where `url` leads; `tls` is for https.
  static HttpPeer Of(const HttpUrl& url, TlsFiles tls = {});
  static HttpPeer Unix(std::string path);
  [[nodiscard]] std::string authority() const;
};

// One request. `method` is GET, POST, PUT or DELETE; Host, Content-Length and Connection
// are set by the client.
struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";
  std::vector<HttpHeader> headers{};
  std::string body{};
};

struct HttpResponse {
  unsigned status = 0;
  std::vector<HttpHeader> headers{};
  std::string body{};
  std::vector<HttpHeader> trailers{};  // HTTP/2 only
  // HTTP/2: the server ended the stream before the response, with this code of RFC 9113
  // section 7. What it had sent by then is above; `status` is 0 if that was nothing.
  std::optional<std::uint32_t> reset_code{};

  // Value of the first header called `name` (any case), or empty.
  [[nodiscard]] std::string_view Find(std::string_view name) const;
};

// Bounds of one exchange. A response beyond a limit is kLimit and closes the connection.
struct HttpLimits {
  std::chrono::milliseconds timeout{10'000};  // from the name's resolution to the last byte
  std::size_t body_bytes = 4U << 20U;
  std::size_t header_bytes = 64U << 10U;
};

// HttpConnection is one connection to one peer, opened by the first request, kept alive
// between requests and reopened when the peer has closed it. A request is never sent
// twice. One thread at a time, but for Cancel.
class HttpConnection {
 public:
  // Called with each piece of a streamed body; false ends the stream without an error.
  using OnChunk = std::function<bool(std::string_view chunk)>;

  explicit HttpConnection(HttpPeer peer);
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;
  ~HttpConnection();

  // Sends `request` and waits for the whole response, whatever its status. Fails with
  // kTimeout, kLimit, kProtocol (the answer is not HTTP), kPermission and kNotFound (the
  // Unix socket's), kUnavailable (refused, reset, cancelled).
  base::Result<HttpResponse> Send(const HttpRequest& request, const HttpLimits& limits = {});

  // Sends `request` and gives a 2xx body to `on_chunk` as it arrives, in pieces of any
  // size; `limits.timeout` ends with the response's header, the body may take for ever
  // and `limits.body_bytes` does not bind it. A response of another status is returned
  // with its body instead. The connection is closed at the end.
  base::Result<HttpResponse> Stream(const HttpRequest& request, const OnChunk& on_chunk,
                                    const HttpLimits& limits = {});

  // Ends the running and every later call with kUnavailable ("cancelled"). Any thread.
  void Cancel() noexcept;

  [[nodiscard]] const HttpPeer& peer() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Http2Connection is the same by HTTP/2: with prior knowledge in the clear, by ALPN "h2"
// in TLS. One request at a time; `trailers` and `reset_code` of the response are filled in.
// One thread at a time, but for Cancel.
class Http2Connection {
 public:
  explicit Http2Connection(HttpPeer peer);
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;
  ~Http2Connection();

  // As HttpConnection::Send. A reset of the stream is a response with `reset_code`; header
  // fields beyond `limits.header_bytes` and a body beyond `limits.body_bytes` are kLimit.
  base::Result<HttpResponse> Send(const HttpRequest& request, const HttpLimits& limits = {});

  // Ends the running and every later call with kUnavailable ("cancelled"). Any thread.
  void Cancel() noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::client
