#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/client/http_client.h"

// What the HTTP/1.1 and the HTTP/2 client stand on; included by their two files only, as
// it is slow to compile.
namespace weir::client {

using SteadyTime = std::chrono::steady_clock::time_point;

// Stream is a socket, or TLS over it: an AsyncStream of Boost.Asio.
class Stream {
 public:
  using Protocol = boost::asio::generic::stream_protocol;
  using Socket = boost::asio::basic_stream_socket<Protocol>;
  using executor_type = Socket::executor_type;

  explicit Stream(boost::asio::io_context& context) : socket_(context) {}

  executor_type get_executor() { return socket_.get_executor(); }
  Socket& socket() { return socket_; }
  boost::asio::ssl::stream<Socket&>* tls() { return tls_ ? &*tls_ : nullptr; }

  // Puts TLS over the connected socket, with `context`, which must live as long.
  void StartTls(boost::asio::ssl::context& context) { tls_.emplace(socket_, context); }
  void Close();

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
    }
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
    }
  }

 private:
  Socket socket_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
};

// Transport is the connection to one peer: one io_context, run by the calling thread until
// the operation in hand is done or its deadline has passed. One thread, but for Cancel.
class Transport {
 public:
  // `alpn` is offered in TLS, and must then be chosen by the server; empty: none is.
  Transport(HttpPeer peer, std::string alpn) : peer_(std::move(peer)), alpn_(std::move(alpn)) {}

  [[nodiscard]] const HttpPeer& peer() const { return peer_; }
  [[nodiscard]] std::string Name() const;
  [[nodiscard]] bool is_cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_open() { return stream_.socket().is_open(); }
  // Open, and nothing to read: neither its end nor bytes.
  [[nodiscard]] bool IsQuiet();
  Stream& stream() { return stream_; }

  // Ends the running and every later operation. Any thread.
  void Cancel() noexcept;
  void Close() { stream_.Close(); }

  // Resolves the peer's name, tries each address with its share of the time that is left,
  // and makes the TLS handshake if the peer has TLS.
  base::Result<void> Connect(SteadyTime deadline);

  // Runs what `start` begins (it gets the completion handler) until done or `deadline`;
  // timed_out closes the connection.
  template <typename Start>
  boost::system::error_code Run(std::optional<SteadyTime> deadline, const Start& start) {
    if (is_cancelled()) {
      return boost::asio::error::operation_aborted;
    }
    std::optional<boost::system::error_code> result;
    start([&result](const boost::system::error_code& failure, auto&&...) { result = failure; });
    context_.restart();
    while (!result) {
      const std::size_t ran = deadline ? context_.run_one_until(*deadline) : context_.run_one();
      if (ran == 0 && !result) {
        CloseSocket();  // the operation ends with operation_aborted
        while (!result) {
          (void)context_.run_one();
        }
        return boost::asio::error::timed_out;
      }
    }
    return *result;
  }

  // `failure` of what `verb` names ("read from") as an error that says with whom.
  [[nodiscard]] base::Error ToError(std::string_view verb,
                                    const boost::system::error_code& failure) const;

 private:
  void CloseSocket();
  base::Result<std::vector<Stream::Protocol::endpoint>> Endpoints(SteadyTime deadline);
  base::Result<void> Handshake(SteadyTime deadline);
  base::Result<void> MakeTlsContext(const TlsFiles& files);
  base::Result<void> PrepareTls(SSL* ssl) const;

  const HttpPeer peer_;
  const std::string alpn_;
  boost::asio::io_context context_{1};
  std::unique_ptr<boost::asio::ssl::context> tls_context_;
  Stream stream_{context_};
  std::atomic<bool> cancelled_{false};
};

// Whether `request` can be sent: its method, target and header fields are HTTP's. Pure.
base::Result<void> CheckRequest(const HttpRequest& request);

}  // namespace weir::client
