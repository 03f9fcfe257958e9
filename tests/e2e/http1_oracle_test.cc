// The relay must never let through what a server reads as other requests than it did
// itself: that is how requests are smuggled. Two servers with parsers of their own, nginx
// and Node.js, get what the relay passes on, each over a Unix socket of its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/unique_fd.h"
#include "tests/support/http1_corpus.h"
#include "tests/support/http1_relay_rig.h"
#include "tests/support/http1_transcript.h"
#include "tests/support/temporary_directory.h"

namespace weir {
namespace {

using Rig = test::Http1RelayRig;

std::optional<std::string> FindProgram(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/usr/local/bin/"}) {
    if (::access((folder + name).c_str(), X_OK) == 0) {
      return folder + name;
    }
  }
  return std::nullopt;
}

// A server program that dies with this object, and with this process.
class Server {
 public:
  Server(const std::string& program, const std::vector<std::string>& arguments,
         std::string socket_path)
      : socket_path_(std::move(socket_path)) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::vector<char*> argv = {const_cast<char*>(program.c_str())};
      for (const std::string& argument : arguments) {
        argv.push_back(const_cast<char*>(argument.c_str()));
      }
      argv.push_back(nullptr);
      ::execv(program.c_str(), argv.data());
      ::_exit(127);
    }
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  [[nodiscard]] base::UniqueFd Connect() const {
    base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const timeval limit{.tv_sec = 5, .tv_usec = 0};
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    const bool connected =
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    return connected ? std::move(fd) : base::UniqueFd();
  }

  // Whether it listens within 10 s.
  [[nodiscard]] bool Ready() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!Connect().valid()) {
      if (std::chrono::steady_clock::now() > until) {
        return false;
      }
      std::this_thread::yield();
    }
    return true;
  }

  // All that it answers to `bytes` and the end of the stream; nothing if it did not end.
  [[nodiscard]] std::optional<std::string> Ask(std::string_view bytes) const {
    const base::UniqueFd fd = Connect();
    if (!fd.valid()) {
      return std::nullopt;
    }
    // A server that refuses may stop reading first: what it answered counts all the same.
    (void)::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    (void)::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    while (true) {
      const ssize_t count = ::recv(fd.get(), buffer, sizeof(buffer), 0);
      if (count > 0) {
        answer.append(buffer, static_cast<std::size_t>(count));
        continue;
      }
      const bool ended = count == 0 || errno == ECONNRESET;
      return ended ? std::optional(answer) : std::nullopt;
    }
  }

 private:
  std::string socket_path_;
  pid_t pid_ = -1;
};

constexpr std::string_view kNginxConfig = R"(
daemon off; master_process off; pid DIR/nginx.pid; error_log DIR/nginx.log crit;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f;
  uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  server { listen unix:DIR/nginx.sock; keepalive_requests 100000; location / { return 200 "seen"; } }
}
)";

constexpr std::string_view kNodeProgram = R"(
const server = require('http').createServer((request, response) => {
  request.on('data', () => {});
  request.on('end', () => response.end('seen'));
});
server.httpAllowHalfOpen = true;
server.listen(process.argv[2]);
)";

std::string Fill(std::string_view text, const std::string& directory) {
  std::string filled(text);
  for (std::size_t at = 0; (at = filled.find("DIR", at)) != std::string::npos;) {
    filled.replace(at, 3, directory);
  }
  return filled;
}

void Write(const std::string& path, std::string_view text) {
  std::ofstream(path) << text;
}

std::size_t CountOf(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string_view::npos;
       at += what.size()) {
    ++count;
  }
  return count;
}

// What the relay makes of a stream: what it passes on, and of how many requests.
struct Passed {
  std::string bytes;
  std::size_t begun = 0;  // heads that went out
  std::size_t whole = 0;  // of which the end went out too
  bool refused = false;
};

Passed PassThrough(std::string_view stream) {
  Rig rig(Rig::Role::kClient);
  Passed passed;
  passed.refused = rig.Downstream(stream).action != proxy::Http1Relay::Action::kContinue;
  passed.bytes = rig.upstream();
  rig.relay().Finish(observe::Reason::kNone);
  for (const auto& exchange : rig.exchanges()) {
    passed.begun += exchange.bytes_sent > 0 ? 1 : 0;
  }
  test::Http1Transcript transcript;
  transcript.Feed(passed.bytes);
  passed.whole = transcript.message_count();
  return passed;
}

// Streams that differ from good ones in one place, by one or two octets that parsers stumble
// over. Repeatable.
std::vector<std::string> MutatedStreams(std::size_t count) {
  using namespace std::string_literals;
  const std::vector<std::string> pieces = {"\r",
                                           "\n",
                                           "\r\n",
                                           "\n\n",
                                           " ",
                                           "\t",
                                           "\0"s,
                                           ":",
                                           ";",
                                           ",",
                                           "0",
                                           "1",
                                           "a",
                                           "\x0b",
                                           "\x80",
                                           "\xff",
                                           "\"",
                                           "+",
                                           "-",
                                           "\r\n ",
                                           "Content-Length: 3\r\n",
                                           "Transfer-Encoding: chunked\r\n",
                                           "Transfer-Encoding: identity\r\n",
                                           "Host: b\r\n",
                                           "Connection: close\r\n",
                                           "0\r\n\r\n",
                                           "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
                                           "Expect: 100-continue\r\n",
                                           "X: y\r\n",
                                           "//",
                                           "%00"};
  const auto good = test::WellFormedRequests();
  std::mt19937 random(31);
  std::set<std::string> streams;
  while (streams.size() < count) {
    std::string stream = good[random() % good.size()].bytes;
    const std::size_t at = random() % (stream.size() + 1);
    const std::string& piece = pieces[random() % pieces.size()];
    const std::size_t replaced = random() % 3 == 0 ? 0 : piece.size();
    stream.replace(at, std::min(replaced, stream.size() - at), piece);
    streams.insert(std::move(stream));
  }
  return {streams.begin(), streams.end()};
}

class Http1OracleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto nginx = FindProgram("nginx");
    const auto node = FindProgram("node");
    if (!nginx || !node) {
      const char* required = std::getenv("WEIR_REQUIRE_ROOT");
      ASSERT_FALSE(required != nullptr && std::string_view(required) == "1")
          << "nginx and node are missing; run: sudo scripts/install-deps";
      GTEST_SKIP() << "needs nginx and node";
    }
    const std::string& folder = directory_.path();
    Write(directory_.File("nginx.conf"), Fill(kNginxConfig, folder));
    Write(directory_.File("oracle.js"), kNodeProgram);
    nginx_.emplace(*nginx,
                   std::vector<std::string>{"-p", folder, "-c", directory_.File("nginx.conf"), "-e",
                                            directory_.File("nginx.log")},
                   directory_.File("nginx.sock"));
    node_.emplace(
        *node, std::vector<std::string>{directory_.File("oracle.js"), directory_.File("node.sock")},
        directory_.File("node.sock"));
    ASSERT_TRUE(nginx_->Ready());
    ASSERT_TRUE(node_->Ready());
  }

  // Both servers must see the requests that the relay saw: all of them, or those before one
  // that they refuse or close behind; never one more.
  void Compare(std::string_view stream) {
    const Passed passed = PassThrough(stream);
    if (passed.bytes.empty()) {
      return;
    }
    ++compared_;
    for (const auto& [name, server] :
         {std::pair<std::string_view, const Server&>{"nginx", *nginx_},
          std::pair<std::string_view, const Server&>{"node", *node_}}) {
      const auto answer = server.Ask(passed.bytes);
      ASSERT_TRUE(answer.has_value()) << name << " does not end: " << passed.bytes;
      const std::size_t seen = CountOf(*answer, "HTTP/1.1 200 ");
      const bool stopped = answer->find("HTTP/1.1 4") != std::string::npos ||
                           answer->find("HTTP/1.1 5") != std::string::npos ||
                           answer->find("Connection: close\r\n") != std::string::npos;
      EXPECT_LE(seen, passed.begun) << name << " sees more: " << passed.bytes << "\n" << *answer;
      EXPECT_TRUE(seen >= passed.whole || stopped)
          << name << " sees fewer: " << passed.bytes << "\n"
          << *answer;
    }
  }

  test::TemporaryDirectory directory_;
  std::optional<Server> nginx_;
  std::optional<Server> node_;
  std::size_t compared_ = 0;
};

TEST_F(Http1OracleTest, SeesTheRequestsOfWellFormedStreams) {
  for (const auto& one : test::WellFormedRequests()) {
    SCOPED_TRACE(one.name);
    const Passed passed = PassThrough(one.bytes);
    EXPECT_EQ(passed.whole, one.count);
    if (one.name == "asterisk form") {
      continue;  // nginx serves no "*"
    }
    for (const Server* server : {&*nginx_, &*node_}) {
      EXPECT_EQ(CountOf(server->Ask(passed.bytes).value_or(""), "HTTP/1.1 200 "), one.count);
    }
  }
}

TEST_F(Http1OracleTest, SeesNoRequestBehindAMalformedOne) {
  const std::string smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const auto& one : test::MalformedRequests()) {
    SCOPED_TRACE(one.name);
    EXPECT_TRUE(PassThrough(one.bytes).refused);
    Compare(smuggled + one.bytes + smuggled);
  }
  EXPECT_EQ(compared_, test::MalformedRequests().size());
}

TEST_F(Http1OracleTest, SeesTheSameRequestsOfMutatedStreams) {
  for (const std::string& stream : MutatedStreams(/*count=*/4000)) {
    Compare(stream);
    if (HasFailure()) {
      break;
    }
  }
  EXPECT_GT(compared_, 1000U);
}

}  // namespace
}  // namespace weir
