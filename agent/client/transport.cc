#include "agent/client/transport.h"

#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <cerrno>
#include <cstring>

#include "agent/base/ip.h"
#include "agent/client/resolve.h"

namespace weir::client {
namespace {

namespace asio = boost::asio;
using base::Error;
using base::ErrorCode;
using base::MakeError;
using boost::system::error_code;

// Where Debian and most distributions keep the roots that the machine trusts.
constexpr std::string_view kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

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

}  // namespace

base::Result<void> CheckRequest(const HttpRequest& request) {
  if (request.method != "GET" && request.method != "POST" && request.method != "PUT" &&
      request.method != "DELETE") {
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
  return {};
}

void Stream::Close() {
  tls_.reset();
  error_code ignored;  // the socket is closed whatever this says
  socket_.close(ignored);
}

std::string Transport::Name() const {
  return peer_.unix_path.empty() ? peer_.host + ":" + std::to_string(peer_.port) : peer_.unix_path;
}

void Transport::Cancel() noexcept {
  cancelled_.store(true, std::memory_order_relaxed);
  asio::post(context_, [this] { CloseSocket(); });
}

// Only the socket: an operation of the TLS over it may still be under way.
void Transport::CloseSocket() {
  error_code ignored;  // the socket is closed whatever this says
  stream_.socket().close(ignored);
}

bool Transport::IsQuiet() {
  char byte = 0;
  return is_open() &&
         ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         (errno == EAGAIN || errno == EWOULDBLOCK);
}

Error Transport::ToError(std::string_view verb, const error_code& failure) const {
  const std::string what = std::string(verb) + " " + Name() + ": ";
  if (is_cancelled()) {
    return {ErrorCode::kUnavailable, what + "cancelled"};
  }
  if (failure == asio::error::timed_out) {
    return {ErrorCode::kTimeout, what + "no answer in time"};
  }
  if (failure == asio::error::eof || failure == asio::ssl::error::stream_truncated) {
    return {ErrorCode::kUnavailable, what + "the peer closed the connection too early"};
  }
  const bool is_system = failure.category() == boost::system::system_category();
  const int number = is_system ? failure.value() : 0;
  const ErrorCode code = number == ENOENT   ? ErrorCode::kNotFound
                         : number == EACCES ? ErrorCode::kPermission
                                            : ErrorCode::kUnavailable;
  return {code, what + failure.message(), number};
}

base::Result<std::vector<Stream::Protocol::endpoint>> Transport::Endpoints(SteadyTime deadline) {
  std::vector<Stream::Protocol::endpoint> endpoints;
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

base::Result<void> Transport::Connect(SteadyTime deadline) {
  const auto endpoints = Endpoints(deadline);
  if (!endpoints) {
    return std::unexpected(endpoints.error());
  }
  error_code failure;
  std::size_t left = endpoints->size();
  for (const Stream::Protocol::endpoint& endpoint : *endpoints) {
    const SteadyTime now = std::chrono::steady_clock::now();
    const SteadyTime until = now + (deadline - now) / static_cast<long>(left--);
    Close();
    failure =
        Run(until, [&](auto done) { stream_.socket().async_connect(endpoint, std::move(done)); });
    if (!failure) {
      return peer_.tls ? Handshake(deadline) : base::Result<void>{};
    }
  }
  return std::unexpected(ToError("connect to", failure));
}

base::Result<void> Transport::MakeTlsContext(const TlsFiles& files) {
  namespace ssl = asio::ssl;
  tls_context_ = std::make_unique<ssl::context>(ssl::context::tls_client);
  (void)::SSL_CTX_set_min_proto_version(tls_context_->native_handle(), TLS1_2_VERSION);
  tls_context_->set_verify_mode(ssl::verify_peer);
  const auto bad = [](const std::string& path, const error_code& failure) {
    return MakeError(ErrorCode::kUnavailable, "read " + path + ": " + failure.message());
  };
  error_code failure;
  const std::string roots = files.roots.empty() ? std::string(kSystemRoots) : files.roots;
  if (tls_context_->load_verify_file(roots, failure)) {
    return bad(roots, failure);
  }
  if (!files.certificate.empty() &&
      tls_context_->use_certificate_chain_file(files.certificate, failure)) {
    return bad(files.certificate, failure);
  }
  if (!files.key.empty() &&
      tls_context_->use_private_key_file(files.key, ssl::context::pem, failure)) {
    return bad(files.key, failure);
  }
  return {};
}

// The name that the server must have (RFC 6125), the one it is told, and the protocol.
base::Result<void> Transport::PrepareTls(SSL* ssl) const {
  bool is_set = false;
  X509_VERIFY_PARAM* const rules = ::SSL_get0_param(ssl);
  if (base::IpAddress::Parse(peer_.host)) {
    is_set = ::X509_VERIFY_PARAM_set1_ip_asc(rules, peer_.host.c_str()) == 1;
  } else {
    ::X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    is_set = ::X509_VERIFY_PARAM_set1_host(rules, peer_.host.data(), peer_.host.size()) == 1 &&
             ::SSL_set_tlsext_host_name(ssl, peer_.host.c_str()) == 1;
  }
  if (is_set && !alpn_.empty()) {
    std::string offer(1, static_cast<char>(alpn_.size()));
    offer += alpn_;
    is_set = ::SSL_set_alpn_protos(ssl, reinterpret_cast<const std::uint8_t*>(offer.data()),
                                   static_cast<unsigned>(offer.size())) == 0;
  }
  if (!is_set) {
    return MakeError(ErrorCode::kInternal, "prepare TLS to " + Name());
  }
  return {};
}

// The files are read anew for each connection, so that renewed ones are taken.
base::Result<void> Transport::Handshake(SteadyTime deadline) {
  if (auto made = MakeTlsContext(*peer_.tls); !made) {
    return made;
  }
  stream_.StartTls(*tls_context_);
  SSL* const ssl = stream_.tls()->native_handle();
  if (auto prepared = PrepareTls(ssl); !prepared) {
    return prepared;
  }
  const error_code failure = Run(deadline, [&](auto done) {
    stream_.tls()->async_handshake(asio::ssl::stream_base::client, std::move(done));
  });
  if (failure) {
    const long verdict = ::SSL_get_verify_result(ssl);
    Error error = ToError("TLS handshake with", failure);
    Close();
    return std::unexpected(verdict == X509_V_OK || is_cancelled()
                               ? std::move(error)
                               : Error(error.code(), error.message() + ": " +
                                                         ::X509_verify_cert_error_string(verdict)));
  }
  const unsigned char* chosen = nullptr;
  unsigned length = 0;
  ::SSL_get0_alpn_selected(ssl, &chosen, &length);
  if (!alpn_.empty() && std::string_view(reinterpret_cast<const char*>(chosen), length) != alpn_) {
    Close();
    return MakeError(ErrorCode::kProtocol,
                     "TLS handshake with " + Name() + ": the server does not offer " + alpn_);
  }
  return {};
}

}  // namespace weir::client
