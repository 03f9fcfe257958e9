#include "agent/export/log_stream.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>

#include "agent/base/unique_fd.h"
#include "agent/export/log_writer.h"

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A listener on loopback; the test accepts and reads by itself.
class Listener {
 public:
  explicit Listener(std::uint16_t port = 0, int receive_bytes = 0) {
    fd_.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    if (receive_bytes != 0) {
      EXPECT_EQ(
          ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)), 0);
    }
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    EXPECT_EQ(::listen(fd_.get(), 8), 0);
    socklen_t size = sizeof(at);
    EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
    port_ = ntohs(at.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string target() const { return "tcp://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] base::UniqueFd Accept() const {
    pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&wait, 1, 20'000), 1);
    return base::UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  base::UniqueFd fd_;
  std::uint16_t port_ = 0;
};

// What comes until `end` does, the peer closes, or 20 s have passed.
std::string ReadUntil(int fd, const std::string& end) {
  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (!text.ends_with(end) && std::chrono::steady_clock::now() < deadline) {
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 100) != 1) {
      continue;
    }
    std::array<char, 65536> bytes;
    const ssize_t count = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (count <= 0) {
      break;
    }
    text.append(bytes.data(), static_cast<std::size_t>(count));
  }
  return text;
}

std::unique_ptr<LogWriter> Start(const std::string& target, std::size_t limit = 8U << 20U) {
  auto writer = LogWriter::Start({.path = target,
                                  .queue_limit_bytes = limit,
                                  .backoff_first = milliseconds(2),
                                  .backoff_limit = milliseconds(10)});
  EXPECT_TRUE(writer.has_value());
  return std::move(*writer);
}

bool WaitFor(const LogWriter& writer, const auto& is_so) {
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (!is_so(writer.status())) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

std::uint64_t Dropped(const LogWriterStatus& status, LogDrop reason) {
  return status.dropped[static_cast<std::size_t>(reason)];
}

TEST(LogStreamTest, SendsOneLineARecord) {
  const Listener listener;
  auto writer = Start(listener.target());
  writer->Write("a\nb\n", 2);
  const base::UniqueFd peer = listener.Accept();
  EXPECT_EQ(ReadUntil(peer.get(), "b\n"), "a\nb\n");
  writer->Write("c\n", 1);
  writer->Reopen();  // a connection stays
  writer->Write("d\n", 1);
  EXPECT_EQ(ReadUntil(peer.get(), "d\n"), "c\nd\n");
  writer->Stop(seconds(10));
  EXPECT_EQ(writer->status().written, 4U);
  EXPECT_EQ(writer->status().connections, 1U);
}

TEST(LogStreamTest, KeepsLinesUntilThePeerIsThere) {
  std::uint16_t port = 0;
  {
    const Listener gone;
    port = gone.port();
  }
  auto writer = Start("tcp://localhost:" + std::to_string(port));
  writer->Write("a\n", 1);
  ASSERT_TRUE(WaitFor(*writer, [](const auto& status) { return !status.last_error.empty(); }));
  EXPECT_EQ(writer->status().queued, 1U);
  const Listener listener(port);
  const base::UniqueFd peer = listener.Accept();
  EXPECT_EQ(ReadUntil(peer.get(), "\n"), "a\n");
  ASSERT_TRUE(WaitFor(*writer, [](const auto& status) { return status.queued == 0; }));
  EXPECT_EQ(writer->status().last_error, "");
  EXPECT_EQ(writer->status().dropped_total(), 0U);
}

TEST(LogStreamTest, ConnectsAnewWhenThePeerCloses) {
  const Listener listener;
  auto writer = Start(listener.target());
  writer->Write("a\n", 1);
  base::UniqueFd peer = listener.Accept();
  EXPECT_EQ(ReadUntil(peer.get(), "a\n"), "a\n");
  EXPECT_EQ(::send(peer.get(), "noise", 5, 0), 5);  // nobody listens to it
  peer.Reset();
  writer->Write("b\n", 1);
  const base::UniqueFd next = listener.Accept();
  EXPECT_EQ(ReadUntil(next.get(), "b\n"), "b\n");
  ASSERT_TRUE(WaitFor(*writer, [](const auto& status) { return status.written == 2; }));
  EXPECT_EQ(writer->status().connections, 2U);
}

// Offering goes on, the queue keeps its bound, what does not fit is counted, and stopping does
// not wait for the reader.
TEST(LogStreamTest, DropsAndCountsWhenTheReaderIsSlow) {
  const Listener listener(0, /*receive_bytes=*/4096);
  constexpr std::size_t kLimit = 1U << 20U;
  auto writer = Start(listener.target(), kLimit);
  const std::string line = std::string(9'999, 'x') + "\n";
  constexpr std::uint64_t kOffered = 2000;  // 20 MB: more than the sockets and the queue hold
  for (std::uint64_t i = 0; i < kOffered; ++i) {
    writer->Write(line, 1);
    EXPECT_LE(writer->status().queued_bytes, kLimit);
  }
  LogWriterStatus status = writer->status();
  EXPECT_GT(Dropped(status, LogDrop::kQueueFull), 0U);
  EXPECT_EQ(status.written + status.dropped_total() + status.queued, kOffered);
  const base::UniqueFd peer = listener.Accept();
  EXPECT_EQ(ReadUntil(peer.get(), line).find(line), 0U);  // what it gets, it gets whole
  writer->Stop(seconds(10));
  status = writer->status();
  EXPECT_EQ(status.queued, 0U);
  EXPECT_EQ(status.written + status.dropped_total(), kOffered);
}

TEST(LogStreamTest, SendsALineAgainThatABrokenConnectionCutOff) {
  const Listener listener(0, /*receive_bytes=*/4096);
  auto writer = Start(listener.target(), 64U << 20U);
  const std::string big = std::string(32U << 20U, 'x') + "\n";  // more than the sockets hold
  writer->Write(big, 1);
  base::UniqueFd peer = listener.Accept();
  std::array<char, 1000> some;
  EXPECT_GT(::recv(peer.get(), some.data(), some.size(), 0), 0);
  peer.Reset();  // with bytes unread: a reset
  const base::UniqueFd next = listener.Accept();
  EXPECT_TRUE(ReadUntil(next.get(), "\n") == big);
  ASSERT_TRUE(WaitFor(*writer, [](const auto& status) { return status.written == 1; }));
  EXPECT_EQ(writer->status().dropped_total(), 0U);
}

TEST(LogStreamTest, StopsWhileThePeerIsAway) {
  auto writer = Start("tcp://127.0.0.1:1");
  writer->Write("a\n", 1);
  ASSERT_TRUE(WaitFor(*writer, [](const auto& status) { return !status.last_error.empty(); }));
  writer->Stop(seconds(10));
  EXPECT_EQ(Dropped(writer->status(), LogDrop::kStopped), 1U);
}

}  // namespace
}  // namespace weir::telemetry
