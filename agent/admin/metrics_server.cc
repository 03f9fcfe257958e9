#include "agent/admin/metrics_server.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <csignal>
#include <exception>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace weir::admin {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxHeaderBytes = 16U << 10U;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr int kNiceness = 10;  // above the workers', so that readers never take their time

base::Result<tcp::acceptor> Listen(asio::io_context& io,
                                   const std::optional<base::IpAddress>& address,
                                   std::uint16_t port) {
  error_code error;
  tcp::endpoint at(address ? asio::ip::make_address(address->ToString(), error)
                           : asio::ip::address(asio::ip::address_v6::any()),
                   port);
  tcp::acceptor acceptor(io);
  if (!error) {
    acceptor.open(at.protocol(), error);
  }
  if (error && !address) {  // a kernel without IPv6
    at = tcp::endpoint(tcp::v4(), port);
    acceptor.open(at.protocol(), error);
  }
  if (!error && at.protocol() == tcp::v6()) {
    acceptor.set_option(asio::ip::v6_only(false), error);
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
    auto failed = base::SystemError(
        "serve metrics on port " + std::to_string(port) + " as MeshMetric says", error.value());
    return std::unexpected(
        std::move(failed.error())
            .WithRemedy("stop what listens there, or give MeshMetric another port"));
  }
  return acceptor;
}

}  // namespace

class MetricsServer::Impl {
 public:
  explicit Impl(MetricsServerOptions options) : options_(std::move(options)) {}

  base::Result<void> Start() {
    // The daemon's signals belong to its main thread.
    sigset_t all{};
    sigset_t before{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    base::Result<void> result;
    try {
      thread_ = std::thread([this] {
        ::pthread_setname_np(::pthread_self(), "weir-metrics");
        (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNiceness);
        io_.run();
      });
    } catch (const std::system_error& error) {
      result = base::SystemError("start the thread of the metrics", error.code().value());
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
  }

  void Stop() {
    io_.stop();
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  std::vector<base::Error> SetPorts(std::vector<MetricsPort> wanted) {
    std::vector<base::Error> errors;
    std::set<std::uint16_t> failed;
    std::vector<std::shared_ptr<Port>> next;
    for (MetricsPort& one : wanted) {
      const auto found = std::ranges::find_if(ports_, [&](const std::shared_ptr<Port>& port) {
        return one.port != 0 && port->number == one.port;
      });
      if (found != ports_.end()) {
        const std::lock_guard lock((*found)->mutex);
        (*found)->settings = std::move(one);
        next.push_back(*found);
        continue;
      }
      auto acceptor = Listen(io_, options_.address, one.port);
      if (!acceptor) {
        errors.push_back(acceptor.error());
        failed.insert(one.port);
        continue;
      }
      error_code ignored;  // it is bound
      auto port = std::make_shared<Port>(std::move(*acceptor));
      port->number = port->acceptor.local_endpoint(ignored).port();
      port->settings = std::move(one);
      next.push_back(port);
      asio::co_spawn(io_, Accept(port), asio::detached);
    }
    for (const std::shared_ptr<Port>& port : ports_) {
      if (std::ranges::find(next, port) == next.end()) {
        asio::post(io_, [port] {
          error_code ignored;  // it is closed either way
          port->acceptor.close(ignored);
        });
      }
    }
    const std::lock_guard lock(mutex_);
    ports_ = std::move(next);
    failed_ = std::move(failed);
    return errors;
  }

  [[nodiscard]] std::vector<std::uint16_t> ports() const {
    std::vector<std::uint16_t> numbers;
    for (const std::shared_ptr<Port>& port : ports_) {
      numbers.push_back(port->number);
    }
    return numbers;
  }

  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const {
    using observe::MetricType;
    observe::MetricFamily open{"weir_metrics_port_open",
                               "1 for a port of MeshMetric that is served, 0 where another program "
                               "listens.",
                               MetricType::kGauge,
                               {}};
    {
      const std::lock_guard lock(mutex_);
      for (const std::shared_ptr<Port>& port : ports_) {
        open.samples.push_back({.labels = {{"port", std::to_string(port->number)}}, .value = 1});
      }
      for (const std::uint16_t port : failed_) {
        open.samples.push_back({.labels = {{"port", std::to_string(port)}}, .value = 0});
      }
    }
    const auto counter = [](std::string name, std::string help, std::uint64_t value) {
      return observe::MetricFamily{std::move(name),
                                   std::move(help),
                                   MetricType::kCounter,
                                   {{.labels = {}, .value = static_cast<double>(value)}}};
    };
    return {std::move(open),
            counter("weir_metrics_requests", "Requests to the ports of MeshMetric.",
                    requests_.load(std::memory_order_relaxed)),
            counter("weir_metrics_refused",
                    "Connections to them that were refused, malformed or too slow.",
                    refused_.load(std::memory_order_relaxed))};
  }

 private:
  struct Port {
    explicit Port(tcp::acceptor listening) : acceptor(std::move(listening)) {}
    tcp::acceptor acceptor;  // of the server's thread, once it accepts
    std::uint16_t number = 0;
    std::mutex mutex;
    MetricsPort settings;
  };

  asio::awaitable<void> Accept(std::shared_ptr<Port> port) {
    while (port->acceptor.is_open()) {
      auto [error, socket] = co_await port->acceptor.async_accept(kAwait);
      if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
        co_return;
      }
      if (error) {  // out of descriptors: the next try would fail as well
        asio::steady_timer timer(io_, kAcceptPause);
        (void)co_await timer.async_wait(kAwait);
      } else if (connections_ >= options_.max_connections) {
        refused_.fetch_add(1, std::memory_order_relaxed);
      } else {
        ++connections_;
        asio::co_spawn(io_, Serve(boost::beast::tcp_stream(std::move(socket)), port),
                       [this](const std::exception_ptr&) { --connections_; });
      }
    }
  }

  asio::awaitable<void> Serve(boost::beast::tcp_stream stream, std::shared_ptr<Port> port) {
    boost::beast::flat_buffer buffer(kMaxHeaderBytes);
    for (;;) {
      http::request_parser<http::empty_body> parser;
      parser.header_limit(static_cast<std::uint32_t>(kMaxHeaderBytes));
      parser.body_limit(0);
      stream.expires_after(options_.request_timeout);
      const auto [error, bytes] = co_await http::async_read(stream, buffer, parser, kAwait);
      if (error) {
        refused_.fetch_add(error == http::error::end_of_stream ? 0 : 1, std::memory_order_relaxed);
        co_return;
      }
      requests_.fetch_add(1, std::memory_order_relaxed);
      auto response = Answer(parser.get(), *port);
      stream.expires_after(options_.request_timeout);
      const auto [failure, written] = co_await http::async_write(stream, response, kAwait);
      if (failure || !response.keep_alive()) {
        co_return;
      }
    }
  }

  http::response<http::string_body> Answer(const http::request<http::empty_body>& request,
                                           Port& port) const {
    http::response<http::string_body> response(http::status::ok, 11);
    response.keep_alive(request.keep_alive());
    MetricsPort settings;
    {
      const std::lock_guard lock(port.mutex);
      settings = port.settings;
    }
    const std::string_view target(request.target().data(), request.target().size());
    if (target.substr(0, target.find('?')) != settings.path) {
      response.result(http::status::not_found);
    } else if (request.method() != http::verb::get) {
      response.result(http::status::method_not_allowed);
      response.set(http::field::allow, "GET");
    } else {
      auto families = options_.metrics();
      std::erase_if(families, [&](const observe::MetricFamily& family) {
        return !settings.filter.Admits(family.name, family.type == observe::MetricType::kCounter);
      });
      response.set(http::field::content_type, observe::kOpenMetricsContentType);
      response.body() = observe::RenderOpenMetrics(families);
    }
    response.prepare_payload();
    return response;
  }

  const MetricsServerOptions options_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::size_t connections_ = 0;  // of the server's thread
  mutable std::mutex mutex_;     // guards what follows, beside the control thread's reads
  std::vector<std::shared_ptr<Port>> ports_;
  std::set<std::uint16_t> failed_;
  std::thread thread_;
};

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

MetricsServer::~MetricsServer() {
  impl_->Stop();
}

base::Result<std::unique_ptr<MetricsServer>> MetricsServer::Start(MetricsServerOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  if (auto started = impl->Start(); !started) {
    return std::unexpected(std::move(started).error());
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
}

std::vector<base::Error> MetricsServer::SetPorts(std::vector<MetricsPort> ports) {
  return impl_->SetPorts(std::move(ports));
}

std::vector<std::uint16_t> MetricsServer::ports() const {
  return impl_->ports();
}

std::vector<observe::MetricFamily> MetricsServer::Metrics() const {
  return impl_->Metrics();
}

}  // namespace weir::admin
