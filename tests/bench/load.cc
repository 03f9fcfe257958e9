// weir_load: the benchmark's load generator, one thread. HTTP/1.1 GETs:
//
//   weir_load TARGET closed CONNECTIONS SECONDS       keep-alive, one request in flight each
//   weir_load TARGET paced CONNECTIONS SECONDS RATE   open loop: requests leave on schedule and
//                                                     latency counts from the scheduled time
//   weir_load TARGET connect CONNECTIONS SECONDS      one request per connection
//   weir_load TARGET bulk CONNECTIONS SECONDS         GET /big again and again, counts bytes
//   weir_load TARGET idle CONNECTIONS SECONDS         one request each, held open, one more each
//
// and HTTP/2 in the clear:
//
//   weir_load TARGET h2 CONNECTIONS SECONDS STREAMS   GETs, so many at once on each connection
//   weir_load TARGET grpc CONNECTIONS SECONDS STREAMS streams of 100 messages each way, one in
//                                                     flight each; counts messages
//   weir_load TARGET serve                            the server of these two
//
// TARGET is ADDRESS:PORT. Prints {"measuring": true} when SECONDS begin (in idle mode instead
// {"held": COUNT}, when all are answered), and in the end one JSON object with latencies in
// microseconds. "sent" and "answered" are of the whole run, which but for bulk ends when all is
// answered.
#include "tests/bench/load.h"

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

namespace weir::bench {

void Totals::Answered(bool is_measuring, base::MonotonicTime since, base::MonotonicTime now) {
  ++answered;
  if (is_measuring) {
    ++units;
    latencies_us.push_back(static_cast<std::uint32_t>((now - since).count() / 1000));
  }
}

void Totals::Failed(const std::string& why, std::uint64_t count) {
  errors += count;
  whys[why] += count;
}

void PrintBegin() {
  std::puts("{\"measuring\": true}");
  std::fflush(stdout);
}

void Print(Totals& totals, double seconds) {
  auto& sorted = totals.latencies_us;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted.empty()
               ? 0U
               : sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  const auto count = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::string whys;
  for (const auto& [why, times] : totals.whys) {
    whys += (whys.empty() ? "\"" : ", \"") + why + "\": " + std::to_string(times);
  }
  std::printf(
      "{\"units\": %llu, \"errors\": %llu, \"bytes\": %llu, \"sent\": %llu, \"answered\": %llu, "
      "\"requests\": %llu, \"seconds\": %.3f, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, "
      "\"max_us\": %u, \"whys\": {%s}}\n",
      count(totals.units), count(totals.errors), count(totals.bytes), count(totals.sent),
      count(totals.answered), count(totals.requests), seconds, at(0.5), at(0.9), at(0.99), at(1.0),
      whys.c_str());
}

namespace {

using base::Endpoint;
using base::MonotonicTime;
using base::Nanoseconds;

class Connection;

// Bench holds what all connections share and decides what a free one does next.
class Bench {
 public:
  Bench(io::EventLoop& loop, const Options& options) : loop_(loop), options_(options) {
    request_ = std::string("GET ") + (options.mode == Mode::kBulk ? "/big" : "/small") +
               " HTTP/1.1\r\nHost: " + options.target.ToString() + "\r\n" +
               (options.mode == Mode::kConnect ? "Connection: close\r\n" : "") + "\r\n";
  }
  void Run();
  void Finished(Connection& connection, MonotonicTime since);
  // `when`: what it was doing; `error`: an errno, or 0 for what is wrong in what came.
  void Broken(Connection& connection, const char* when, int error);
  void CountRequest() {
    ++totals_.sent;
    ++totals_.requests;
  }
  void CountBytes(std::size_t count) { totals_.bytes += measuring_ ? count : 0; }
  [[nodiscard]] const std::string& request() const { return request_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] const Options& options() const { return options_; }
  io::EventLoop& loop() { return loop_; }

 private:
  void Pace();
  void OpenAll();
  void AskAll();
  void RunFor(double seconds);
  // Until so many requests have been answered since the beginning, a minute at most.
  void RunUntilAnswered(std::size_t requests);
  void Hold();
  // Waits for what is still unanswered.
  void Drain();
  io::EventLoop& loop_;
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

class Connection final : public io::EventHandler {
 public:
  explicit Connection(Bench& bench) : bench_(bench) {}
  virtual ~Connection() = default;

  bool Open() {
    watch_.Reset();
    auto fd = io::ConnectTcp(bench_.options().target);
    if (!fd) {
      return false;
    }
    fd_ = std::move(*fd);
    io::SetNoDelay(fd_.get());
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
      const int error = io::TakeSocketError(fd_.get());
      if ((events & EPOLLOUT) == 0 || error != 0) {
        bench_.Broken(*this, "connecting", error);
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
    bench_.CountRequest();
    const std::string& request = bench_.request();
    // A request always fits into a fresh or drained send buffer.
    if (::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      bench_.Broken(*this, "asking", errno);
    }
  }

  void Receive() {
    static char buffer[1 << 18];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      return;
    }
    if (!busy_ && bench_.stopping()) {
      watch_.Reset();  // the server ends what is over
      return;
    }
    if (got <= 0 || !busy_) {
      bench_.Broken(*this, busy_ ? "answer" : "idle", got < 0 ? errno : 0);
      return;
    }
    bench_.CountBytes(static_cast<std::size_t>(got));
    std::string_view bytes(buffer, static_cast<std::size_t>(got));
    if (!left_ && !TakeHead(bytes)) {
      return;
    }
    if (bytes.size() > *left_) {
      bench_.Broken(*this, "answer too long", 0);
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
      bench_.Broken(*this, "answer not 200", 0);
      return false;
    }
    left_ = length;
    return true;
  }

  Bench& bench_;
  base::UniqueFd fd_;
  io::Watch watch_;
  MonotonicTime since_{};
  std::string head_;
  std::optional<std::size_t> left_;
  bool connecting_ = false;
  bool busy_ = false;
};

void Bench::Finished(Connection& connection, MonotonicTime since) {
  const MonotonicTime now = loop_.clock().Now();
  totals_.Answered(measuring_, since, now);
  switch (options_.mode) {
    case Mode::kPaced:
      free_.push_back(&connection);
      Pace();
      return;
    case Mode::kConnect:
      if (!stopping_ && !connection.Open()) {
        totals_.Failed("no socket");
        return;
      }
      [[fallthrough]];
    case Mode::kClosed:
    case Mode::kBulk:
      if (!stopping_) {
        connection.Ask(now);
      }
      return;
    default:
      return;  // idle connections are asked all at once
  }
}

void Bench::Broken(Connection& connection, const char* when, int error) {
  totals_.Failed(std::string(when) + ": " + (error == 0 ? "end" : std::strerror(error)));
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
  while (!due_.empty() && !free_.empty() && !stopping_) {
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
  while (totals_.answered < requests && loop_.clock().Now() < end) {
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
  std::printf("{\"held\": %llu}\n", static_cast<unsigned long long>(totals_.answered));
  std::fflush(stdout);
  const MonotonicTime start = loop_.clock().Now();
  RunFor(options_.seconds);
  AskAll();
  RunUntilAnswered(2 * options_.connections);
  stopping_ = true;
  Print(totals_, std::chrono::duration<double>(loop_.clock().Now() - start).count());
}

void Bench::Drain() {
  const MonotonicTime end = loop_.clock().Now() + std::chrono::seconds(10);
  while (totals_.answered + totals_.errors < totals_.sent && loop_.clock().Now() < end) {
    loop_.RunOnce(std::chrono::milliseconds(20));
  }
}

void Bench::OpenAll() {
  for (std::size_t i = 0; i < options_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(*this));
    if (!connections_.back()->Open()) {
      totals_.Failed("no socket");
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
  PrintBegin();
  const MonotonicTime start = loop_.clock().Now();
  RunFor(options_.seconds);
  const double seconds = std::chrono::duration<double>(loop_.clock().Now() - start).count();
  measuring_ = false;
  stopping_ = true;
  if (options_.mode != Mode::kBulk) {
    Drain();
  }
  Print(totals_, seconds);
}

std::optional<Options> ParseOptions(const std::vector<std::string>& words) {
  if (words.size() < 2) {
    return std::nullopt;
  }
  Options options;
  auto target = Endpoint::Parse(words[0]);
  const std::vector<std::string_view> modes = {"closed", "paced", "connect", "bulk",
                                               "idle",   "h2",    "grpc",    "serve"};
  const auto mode = std::find(modes.begin(), modes.end(), words[1]);
  if (!target || mode == modes.end()) {
    return std::nullopt;
  }
  options.target = *target;
  options.mode = static_cast<Mode>(mode - modes.begin());
  if (options.mode == Mode::kServe) {
    return options;
  }
  const auto number = [&](std::size_t at) {
    return words.size() > at ? std::strtod(words[at].c_str(), nullptr) : 0;
  };
  options.connections = static_cast<std::size_t>(number(2));
  options.seconds = number(3);
  options.rate = number(4);
  options.streams = static_cast<std::size_t>(number(4));
  const bool is_http2 = options.mode == Mode::kH2 || options.mode == Mode::kGrpc;
  if (options.connections == 0 || options.connections > 20'000 || options.seconds <= 0 ||
      (options.mode == Mode::kPaced && options.rate <= 0) ||
      (is_http2 && (options.streams == 0 || options.streams > 100))) {
    return std::nullopt;
  }
  return options;
}

int Main(const std::vector<std::string>& words) {
  const auto options = ParseOptions(words);
  if (!options) {
    std::fputs(
        "usage: weir_load ADDRESS:PORT closed|paced|connect|bulk|idle CONNECTIONS SECONDS"
        " [RATE]\n"
        "       weir_load ADDRESS:PORT h2|grpc CONNECTIONS SECONDS STREAMS\n"
        "       weir_load ADDRESS:PORT serve\n",
        stderr);
    return 2;
  }
  auto loop = io::EventLoop::Create(base::SystemClock());
  if (!loop) {
    std::fprintf(stderr, "%s\n", loop.error().ToString().c_str());
    return 1;
  }
  switch (options->mode) {
    case Mode::kH2:
    case Mode::kGrpc:
      return RunHttp2Load(**loop, *options);
    case Mode::kServe:
      return ServeHttp2(**loop, *options);
    default:
      Bench(**loop, *options).Run();
      return 0;
  }
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  return weir::bench::Main({argv + 1, argv + argc});
}
