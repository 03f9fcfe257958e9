// weir_load: the benchmark's load generator. One thread, HTTP/1.1 GETs.
//
//   weir_load TARGET closed CONNECTIONS SECONDS       keep-alive, one request in flight each
//   weir_load TARGET paced CONNECTIONS SECONDS RATE   open loop: requests leave on schedule and
//                                                     latency counts from the scheduled time
//   weir_load TARGET connect CONNECTIONS SECONDS      one request per connection
//   weir_load TARGET bulk CONNECTIONS SECONDS         GET /big again and again, counts bytes
//   weir_load TARGET idle CONNECTIONS SECONDS         one request each, held open, one more each
//
// TARGET is ADDRESS:PORT. Prints one JSON object; latencies in microseconds. In idle mode a
// line {"held": COUNT} before it says that all are answered and that SECONDS begin.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/io/event_loop.h"
#include "agent/io/socket.h"

namespace {

using weir::base::Endpoint;
using weir::base::MonotonicTime;
using weir::base::Nanoseconds;

enum class Mode { kClosed, kPaced, kConnect, kBulk, kIdle };

struct Options {
  Endpoint target;
  Mode mode = Mode::kClosed;
  std::size_t connections = 1;
  double seconds = 1;
  double rate = 0;
};

struct Totals {
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> latencies_us;
};

class Connection;

// Bench holds what all connections share and decides what a free one does next.
class Bench {
 public:
  Bench(weir::io::EventLoop& loop, Options options) : loop_(loop), options_(options) {
    request_ = std::string("GET ") + (options.mode == Mode::kBulk ? "/big" : "/small") +
               " HTTP/1.1\r\nHost: " + options.target.ToString() + "\r\n" +
               (options.mode == Mode::kConnect ? "Connection: close\r\n" : "") + "\r\n";
  }
  void Run();
  void Finished(Connection& connection, MonotonicTime since);
  void Broken(Connection& connection);
  void CountBytes(std::size_t count) { totals_.bytes += count; }
  [[nodiscard]] const std::string& request() const { return request_; }
  [[nodiscard]] const Options& options() const { return options_; }
  weir::io::EventLoop& loop() { return loop_; }

 private:
  void Pace();
  void OpenAll();
  void AskAll();
  void RunFor(double seconds);
  // Until so many requests have been answered since the beginning, a minute at most.
  void RunUntilAnswered(std::size_t requests);
  void Hold();
  void Print(double seconds);
  weir::io::EventLoop& loop_;
  Options options_;
  std::string request_;
  Totals totals_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> free_;
  std::deque<MonotonicTime> due_;
  MonotonicTime next_due_{};
  bool measuring_ = false;
  bool stopping_ = false;
};

class Connection final : public weir::io::EventHandler {
 public:
  explicit Connection(Bench& bench) : bench_(bench) {}
  virtual ~Connection() = default;

  bool Open() {
    watch_.Reset();
    auto fd = weir::io::ConnectTcp(bench_.options().target);
    if (!fd) {
      return false;
    }
    fd_ = std::move(*fd);
    weir::io::SetNoDelay(fd_.get());
    auto watch = bench_.loop().Add(fd_.get(), EPOLLOUT, *this);
    if (!watch) {
      return false;
    }
    watch_ = std::move(*watch);
    connecting_ = true;
    return true;
  }

  // Sends one request whose latency counts from `since`.
  void Ask(MonotonicTime since) {
    since_ = since;
    busy_ = true;
    head_.clear();
    left_.reset();
    if (!connecting_) {
      SendRequest();
    }
  }

  void OnEvents(std::uint32_t events) noexcept override {
    if (connecting_) {
      if ((events & EPOLLOUT) == 0 || weir::io::TakeSocketError(fd_.get()) != 0) {
        bench_.Broken(*this);
        return;
      }
      connecting_ = false;
      watch_.Modify(EPOLLIN);
      if (busy_) {
        SendRequest();
      }
      return;
    }
    Receive();
  }

 private:
  void SendRequest() {
    const std::string& request = bench_.request();
    // A request always fits into a fresh or drained send buffer.
    if (::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      bench_.Broken(*this);
    }
  }

  void Receive() {
    static char buffer[1 << 18];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      return;
    }
    if (got <= 0 || !busy_) {
      bench_.Broken(*this);
      return;
    }
    bench_.CountBytes(static_cast<std::size_t>(got));
    std::string_view bytes(buffer, static_cast<std::size_t>(got));
    if (!left_ && !TakeHead(bytes)) {
      return;
    }
    if (bytes.size() > *left_) {
      bench_.Broken(*this);
      return;
    }
    *left_ -= bytes.size();
    if (*left_ == 0) {
      busy_ = false;
      bench_.Finished(*this, since_);
    }
  }

  // Reads the head; leaves the body's first bytes in `bytes`.
  bool TakeHead(std::string_view& bytes) {
    const std::size_t before = head_.size();
    head_.append(bytes);
    const std::size_t end = head_.find("\r\n\r\n");
    if (end == std::string::npos) {
      return false;
    }
    bytes.remove_prefix(end + 4 - before);
    for (char& c : head_) {
      c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    constexpr std::string_view kLength = "content-length: ";
    const std::size_t at = head_.find(kLength);
    std::size_t length = 0;
    if (!head_.starts_with("http/1.1 200") || at == std::string::npos || at > end ||
        std::from_chars(head_.data() + at + kLength.size(), head_.data() + end, length).ec !=
            std::errc()) {
      bench_.Broken(*this);
      return false;
    }
    left_ = length;
    return true;
  }

  Bench& bench_;
  weir::base::UniqueFd fd_;
  weir::io::Watch watch_;
  MonotonicTime since_{};
  std::string head_;
  std::optional<std::size_t> left_;
  bool connecting_ = false;
  bool busy_ = false;
};

void Bench::Finished(Connection& connection, MonotonicTime since) {
  const MonotonicTime now = loop_.clock().Now();
  if (measuring_) {
    ++totals_.requests;
    totals_.latencies_us.push_back(static_cast<std::uint32_t>((now - since).count() / 1000));
  }
  switch (options_.mode) {
    case Mode::kIdle:
      return;
    case Mode::kPaced:
      free_.push_back(&connection);
      Pace();
      return;
    case Mode::kConnect:
      if (!stopping_ && !connection.Open()) {
        ++totals_.errors;
        return;
      }
      [[fallthrough]];
    case Mode::kClosed:
    case Mode::kBulk:
      if (!stopping_) {
        connection.Ask(now);
      }
  }
}

void Bench::Broken(Connection& connection) {
  ++totals_.errors;
  if (!stopping_ && totals_.errors < 100'000 && connection.Open()) {
    connection.Ask(loop_.clock().Now());
  }
}

void Bench::Pace() {
  const MonotonicTime now = loop_.clock().Now();
  while (next_due_ <= now && !stopping_) {
    due_.push_back(next_due_);
    next_due_ += Nanoseconds(static_cast<std::int64_t>(1e9 / options_.rate));
  }
  while (!due_.empty() && !free_.empty()) {
    Connection* connection = free_.front();
    free_.pop_front();
    connection->Ask(due_.front());
    due_.pop_front();
  }
}

void Bench::RunFor(double seconds) {
  const MonotonicTime end =
      loop_.clock().Now() + Nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
  while (loop_.clock().Now() < end) {
    loop_.RunOnce(options_.mode == Mode::kPaced ? std::chrono::milliseconds(1)
                                                : std::chrono::milliseconds(20));
    if (options_.mode == Mode::kPaced) {
      Pace();
    }
  }
}

void Bench::RunUntilAnswered(std::size_t requests) {
  const MonotonicTime end = loop_.clock().Now() + std::chrono::minutes(1);
  while (totals_.requests < requests && loop_.clock().Now() < end) {
    loop_.RunOnce(std::chrono::milliseconds(20));
  }
}

void Bench::AskAll() {
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    connections_[i]->Ask(loop_.clock().Now());
    if (i % 64 == 63) {
      loop_.RunOnce(std::chrono::milliseconds(1));
    }
  }
}

void Bench::Hold() {
  measuring_ = true;
  OpenAll();
  RunUntilAnswered(options_.connections);
  std::printf("{\"held\": %llu}\n", static_cast<unsigned long long>(totals_.requests));
  std::fflush(stdout);
  const MonotonicTime start = loop_.clock().Now();
  RunFor(options_.seconds);
  AskAll();
  RunUntilAnswered(2 * options_.connections);
  stopping_ = true;
  Print(std::chrono::duration<double>(loop_.clock().Now() - start).count());
}

void Bench::OpenAll() {
  for (std::size_t i = 0; i < options_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(*this));
    if (!connections_.back()->Open()) {
      ++totals_.errors;
      continue;
    }
    if (options_.mode == Mode::kPaced) {
      free_.push_back(connections_.back().get());
    } else {
      connections_.back()->Ask(loop_.clock().Now());
    }
    if (i % 64 == 63) {
      loop_.RunOnce(std::chrono::milliseconds(1));
    }
  }
}

void Bench::Run() {
  if (options_.mode == Mode::kIdle) {
    Hold();
    return;
  }
  next_due_ = loop_.clock().Now();
  OpenAll();
  RunFor(0.5);  // warm-up: connections, tunnels, caches
  measuring_ = true;
  totals_.bytes = 0;
  const MonotonicTime start = loop_.clock().Now();
  RunFor(options_.seconds);
  stopping_ = true;
  Print(std::chrono::duration<double>(loop_.clock().Now() - start).count());
}

void Bench::Print(double seconds) {
  auto& sorted = totals_.latencies_us;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted.empty()
               ? 0U
               : sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  std::printf(
      "{\"requests\": %llu, \"errors\": %llu, \"bytes\": %llu, \"seconds\": %.3f, "
      "\"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
      static_cast<unsigned long long>(totals_.requests),
      static_cast<unsigned long long>(totals_.errors),
      static_cast<unsigned long long>(totals_.bytes), seconds, at(0.5), at(0.9), at(0.99), at(1.0));
}

std::optional<Options> ParseOptions(const std::vector<std::string>& words) {
  if (words.size() < 4) {
    return std::nullopt;
  }
  Options options;
  auto target = Endpoint::Parse(words[0]);
  const std::vector<std::string_view> modes = {"closed", "paced", "connect", "bulk", "idle"};
  const auto mode = std::find(modes.begin(), modes.end(), words[1]);
  if (!target || mode == modes.end()) {
    return std::nullopt;
  }
  options.target = *target;
  options.mode = static_cast<Mode>(mode - modes.begin());
  options.connections = std::strtoul(words[2].c_str(), nullptr, 10);
  options.seconds = std::strtod(words[3].c_str(), nullptr);
  options.rate = words.size() > 4 ? std::strtod(words[4].c_str(), nullptr) : 0;
  if (options.connections == 0 || options.connections > 20'000 || options.seconds <= 0 ||
      (options.mode == Mode::kPaced && options.rate <= 0)) {
    return std::nullopt;
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = ParseOptions({argv + 1, argv + argc});
  if (!options) {
    std::fputs(
        "usage: weir_load ADDRESS:PORT closed|paced|connect|bulk|idle CONNECTIONS SECONDS"
        " [RATE]\n",
        stderr);
    return 2;
  }
  auto loop = weir::io::EventLoop::Create(weir::base::SystemClock());
  if (!loop) {
    std::fprintf(stderr, "%s\n", loop.error().ToString().c_str());
    return 1;
  }
  Bench(**loop, *options).Run();
  return 0;
}
