#include "agent/admin/admin_server.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <csignal>
#include <thread>
#include <utility>

#include "agent/admin/router.h"
#include "agent/admin/unix_socket.h"
#include "weir/v1/admin.pb.h"

namespace weir::admin {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Stream = boost::beast::basic_stream<asio::generic::stream_protocol>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

constexpr std::size_t kMaxHeaderBytes = 16U << 10U;
constexpr std::size_t kMaxBodyBytes = 4U << 10U;
// What one reader of flows has under way; times the connections it is the server's memory.
constexpr std::size_t kChunkBytes = 16U << 10U;
// How soon followers see a new flow, and how often the store is looked at for them.
constexpr auto kFollowInterval = std::chrono::milliseconds(50);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
// Above the workers' niceness, so that readers never take their time.
constexpr int kAdminNiceness = 10;

base::Result<asio::ip::tcp::acceptor> ListenTcp(asio::io_context& io,
                                                const base::Endpoint& endpoint) {
  error_code error;
  const auto address = asio::ip::make_address(endpoint.address.ToString(), error);
  asio::ip::tcp::acceptor acceptor(io);
  const asio::ip::tcp::endpoint at(address, endpoint.port);
  if (!error) {
    acceptor.open(at.protocol(), error);
  }
  if (!error) {
    acceptor.set_option(asio::socket_base::reuse_address(true), error);
  }
  if (!error) {
    acceptor.bind(at, error);
  }
  if (!error) {
    acceptor.listen(asio::socket_base::max_listen_connections, error);
  }
  if (error) {
    auto failed = base::SystemError("serve metrics on " + endpoint.ToString(), error.value());
    return std::unexpected(std::move(failed.error())
                               .WithRemedy("stop what listens there, or give metrics.address "
                                           "another address or port"));
  }
  return acceptor;
}

}  // namespace

class AdminServer::Impl {
 public:
  Impl(AdminOptions options, const FlowStore& store, UnixListener listener)
      : options_(std::move(options)),
        store_(store),
        listener_(std::move(listener)),
        router_(options_, providers_, store, counters_, base::SystemClock()),
        lines_(options_.node_name),
        unix_acceptor_(io_),
        tick_(io_),
        news_(io_, asio::steady_timer::time_point::max()) {}

  base::Result<void> Open() {
    error_code error;
    unix_acceptor_.assign(asio::local::stream_protocol(), listener_.TakeFd().Release(), error);
    if (error) {
      return base::SystemError("serve the admin socket", error.value());
    }
    if (options_.metrics_endpoint) {
      auto acceptor = ListenTcp(io_, *options_.metrics_endpoint);
      if (!acceptor) {
        return std::unexpected(acceptor.error());
      }
      tcp_acceptor_.emplace(std::move(*acceptor));
    }
    return {};
  }

  void Run(Providers providers) {
    providers_ = std::move(providers);
    // The daemon's signals belong to its main thread.
    sigset_t all{};
    sigset_t before{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    asio::co_spawn(io_, AcceptUnix(), asio::detached);
    if (tcp_acceptor_) {
      asio::co_spawn(io_, AcceptTcp(), asio::detached);
    }
    thread_ = std::thread([this] {
      ::pthread_setname_np(::pthread_self(), "weir-admin");
      (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kAdminNiceness);
      io_.run();
    });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void Stop() {
    io_.stop();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  [[nodiscard]] std::optional<base::Endpoint> metrics_address() const {
    error_code error;
    if (!tcp_acceptor_) {
      return std::nullopt;
    }
    const auto at = tcp_acceptor_->local_endpoint(error);
    return error ? std::nullopt : base::FromSockaddr(at.data(), static_cast<socklen_t>(at.size()));
  }

  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const {
    return AdminMetrics(counters_);
  }

 private:
  // Counts a connection or a follower for as long as it lives.
  class Counted {
   public:
    explicit Counted(std::atomic<std::uint64_t>& count) : count_(count) { ++count_; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --count_; }

   private:
    std::atomic<std::uint64_t>& count_;
  };

  asio::awaitable<void> AcceptUnix() {
    for (;;) {
      auto [error, socket] = co_await unix_acceptor_.async_accept(kAwait);
      if (error) {
        co_await Pause();
        continue;
      }
      const Access access = AccessOf(socket.native_handle());
      Admit(asio::generic::stream_protocol::socket(std::move(socket)), access);
    }
  }

  asio::awaitable<void> AcceptTcp() {
    for (;;) {
      auto [error, socket] = co_await tcp_acceptor_->async_accept(kAwait);
      if (error) {
        co_await Pause();
        continue;
      }
      Admit(asio::generic::stream_protocol::socket(std::move(socket)), Access::kMetrics);
    }
  }

  // Out of descriptors: the next try would fail as well.
  asio::awaitable<void> Pause() {
    asio::steady_timer timer(io_, kAcceptPause);
    (void)co_await timer.async_wait(kAwait);
  }

  void Admit(asio::generic::stream_protocol::socket socket, Access access) {
    if (counters_.connections.load(std::memory_order_relaxed) >= options_.max_connections) {
      counters_.connections_refused.fetch_add(1, std::memory_order_relaxed);
      return;  // closes it
    }
    asio::co_spawn(io_, Serve(Stream(std::move(socket)), access), asio::detached);
  }

  // Root and the agent's own user may change, the socket's group may read. The file's mode
  // says the same, but a socket can be passed on to somebody else.
  Access AccessOf(int fd) const {
    const auto peer = CredentialsOf(fd);
    if (!peer) {
      return Access::kNone;
    }
    if (peer->uid == 0 || peer->uid == ::geteuid()) {
      return Access::kChange;
    }
    return peer->InGroup(listener_.gid()) ? Access::kRead : Access::kNone;
  }

  asio::awaitable<void> Serve(Stream stream, Access access) {
    const Counted counted(counters_.connections);
    boost::beast::flat_buffer buffer(kMaxHeaderBytes + kMaxBodyBytes);
    for (;;) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(static_cast<std::uint32_t>(kMaxHeaderBytes));
      parser.body_limit(kMaxBodyBytes);
      stream.expires_after(options_.request_timeout);
      const auto [error, bytes] = co_await http::async_read(stream, buffer, parser, kAwait);
      if (error) {
        CountReadError(error);
        co_return;
      }
      const auto& request = parser.get();
      const std::string method(request.method_string());
      const std::string target(request.target());
      Answer answer = router_.Handle({.method = method, .target = target, .access = access});
      if (answer.flows) {
        co_await StreamFlows(stream, std::move(answer), request.keep_alive());
      } else {
        co_await Reply(stream, std::move(answer), request.keep_alive());
      }
      if (!request.keep_alive() || !stream.socket().is_open()) {
        co_return;
      }
    }
  }

  void CountReadError(const error_code& error) {
    if (error == boost::beast::error::timeout) {
      counters_.timeouts.fetch_add(1, std::memory_order_relaxed);
    } else if (error != http::error::end_of_stream &&
               error.category() == http::make_error_code(http::error::end_of_stream).category()) {
      counters_.bad_requests.fetch_add(1, std::memory_order_relaxed);
    }
  }

  static void Close(Stream& stream) {
    error_code ignored;  // it is closed either way
    stream.socket().close(ignored);
  }

  asio::awaitable<void> Reply(Stream& stream, Answer answer, bool keep_alive) {
    http::response<http::string_body> response(http::int_to_status(answer.status), 11);
    response.set(http::field::content_type, answer.content_type);
    response.keep_alive(keep_alive);
    response.body() = std::move(answer.body);
    response.prepare_payload();
    stream.expires_after(options_.request_timeout);
    const auto [error, bytes] = co_await http::async_write(stream, response, kAwait);
    if (error) {
      Close(stream);
    }
  }

  asio::awaitable<void> StreamFlows(Stream& stream, Answer answer, bool keep_alive) {
    const bool follow = answer.flows->follow;
    std::optional<Counted> counted;
    if (follow) {
      counted.emplace(counters_.followers);
    }
    FlowReader reader(std::move(*answer.flows), store_, lines_, base::SystemClock());
    std::string head =
        "HTTP/1.1 200 OK\r\nContent-Type: " + answer.content_type +
        "\r\nTransfer-Encoding: chunked\r\nConnection: " + (keep_alive ? "keep-alive" : "close") +
        "\r\n\r\n";
    std::string lines;
    for (auto step = FlowReader::Step::kMore; step != FlowReader::Step::kDone;) {
      lines.clear();
      step = reader.Read(lines, kChunkBytes);
      // A follower that stops reading stays; it holds one chunk and is told what it missed.
      // Who asked for what there is has the time of any other answer, for each chunk.
      follow ? stream.expires_never() : stream.expires_after(options_.request_timeout);
      if (!lines.empty() && !co_await WriteChunk(stream, head, lines)) {
        Close(stream);
        co_return;
      }
      if (step == FlowReader::Step::kCaughtUp) {
        co_await WaitForNews();
      } else {
        co_await asio::post(io_, asio::use_awaitable);  // let the others have a turn
      }
    }
    const auto [error, bytes] =
        co_await asio::async_write(stream, asio::buffer("0\r\n\r\n", 5), kAwait);
    if (error) {
      Close(stream);
    }
  }

  // `head` goes before the first chunk.
  static asio::awaitable<bool> WriteChunk(Stream& stream, std::string& head,
                                          const std::string& lines) {
    const std::string size = fmt::format("{}{:x}\r\n", std::exchange(head, {}), lines.size());
    const std::array<asio::const_buffer, 3> parts = {asio::buffer(size), asio::buffer(lines),
                                                     asio::buffer("\r\n", 2)};
    const auto [error, bytes] = co_await asio::async_write(stream, parts, kAwait);
    co_return !error;
  }

  // Waits until the store has something new, or a summary is due. One timer looks at the
  // store for all followers; a cancelled wait is the news.
  asio::awaitable<void> WaitForNews() {
    if (!ticking_) {
      ticking_ = true;
      asio::co_spawn(io_, Tick(), asio::detached);
    }
    if (store_.next_sequence() == seen_sequence_) {
      (void)co_await news_.async_wait(kAwait);
    } else {
      asio::steady_timer soon(io_, kFollowInterval);
      (void)co_await soon.async_wait(kAwait);
    }
  }

  asio::awaitable<void> Tick() {
    auto last_wake = std::chrono::steady_clock::now();
    while (counters_.followers.load(std::memory_order_relaxed) != 0) {
      tick_.expires_after(kFollowInterval);
      (void)co_await tick_.async_wait(kAwait);
      const std::uint64_t sequence = store_.next_sequence();
      const auto now = std::chrono::steady_clock::now();
      if (sequence != seen_sequence_ || now - last_wake >= FlowReader::kSummaryEvery) {
        seen_sequence_ = sequence;
        last_wake = now;
        news_.cancel();
      }
    }
    ticking_ = false;
  }

  const AdminOptions options_;
  Providers providers_;  // set before the thread begins
  const FlowStore& store_;
  UnixListener listener_;
  AdminCounters counters_;
  Router router_;
  FlowLines lines_;
  asio::io_context io_{1};
  asio::local::stream_protocol::acceptor unix_acceptor_;
  std::optional<asio::ip::tcp::acceptor> tcp_acceptor_;
  asio::steady_timer tick_;
  asio::steady_timer news_;
  std::uint64_t seen_sequence_ = 0;
  bool ticking_ = false;
  std::thread thread_;
};

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminServer::~AdminServer() {
  impl_->Stop();
}

base::Result<std::unique_ptr<AdminServer>> AdminServer::Bind(AdminOptions options,
                                                             const FlowStore& store) {
  auto listener = UnixListener::Bind(options.socket_path, options.group, options.mode);
  if (!listener) {
    return std::unexpected(listener.error());
  }
  auto impl = std::make_unique<Impl>(std::move(options), store, std::move(*listener));
  if (auto opened = impl->Open(); !opened) {
    return std::unexpected(opened.error());
  }
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

void AdminServer::Serve(Providers providers) {
  impl_->Run(std::move(providers));
}

base::Result<std::unique_ptr<AdminServer>> AdminServer::Start(AdminOptions options,
                                                              Providers providers,
                                                              const FlowStore& store) {
  auto server = Bind(std::move(options), store);
  if (server) {
    (*server)->Serve(std::move(providers));
  }
  return server;
}

std::optional<base::Endpoint> AdminServer::metrics_address() const {
  return impl_->metrics_address();
}

std::vector<observe::MetricFamily> AdminServer::Metrics() const {
  return impl_->Metrics();
}

}  // namespace weir::admin
