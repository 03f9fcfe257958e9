// The engine against the openssl program over loopback sockets.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/io/socket.h"
#include "agent/tls/engine.h"
#include "tests/support/test_pki.h"

namespace weir::tls {
namespace {

constexpr int kTimeoutMs = 10'000;

// A child process with pipes to its standard input and output, ended with the object.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments) {
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    EXPECT_EQ(::pipe2(to.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from.data(), O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      ::dup2(from[1], STDERR_FILENO);
      std::vector<char*> raw;
      for (const std::string& argument : arguments) {
        raw.push_back(const_cast<char*>(argument.c_str()));
      }
      raw.push_back(nullptr);
      ::execvp(raw.front(), raw.data());
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    in_.Reset(to[1]);
    out_.Reset(from[0]);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void Write(std::string_view text) {
    EXPECT_EQ(::write(in_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // Output so far, once it contains `text` or the time is up.
  const std::string& ReadUntil(std::string_view text) {
    while (output_.find(text) == std::string::npos) {
      pollfd wait{.fd = out_.get(), .events = POLLIN, .revents = 0};
      std::array<char, 4096> chunk{};
      if (::poll(&wait, 1, kTimeoutMs) <= 0) {
        break;
      }
      const ssize_t got = ::read(out_.get(), chunk.data(), chunk.size());
      if (got <= 0) {
        break;
      }
      output_.append(chunk.data(), static_cast<std::size_t>(got));
    }
    return output_;
  }

 private:
  pid_t pid_ = -1;
  base::UniqueFd in_;
  base::UniqueFd out_;
  std::string output_;
};

// An engine on a connected socket.
class Wire {
 public:
  Wire(base::UniqueFd fd, std::unique_ptr<Engine> engine)
      : fd_(std::move(fd)), engine_(std::move(engine)) {}
  Engine& engine() { return *engine_; }
  void Start() {
    io::ByteBuffer out;
    engine_->Start(out);
    Flush(out);
  }
  void Send(std::string_view text) {
    io::ByteBuffer out;
    engine_->Send({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, out);
    Flush(out);
  }
  // Takes what arrives next; false when nothing does.
  bool ReceiveOnce() {
    pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    std::array<std::uint8_t, 4096> chunk{};
    if (::poll(&wait, 1, kTimeoutMs) <= 0) {
      return false;
    }
    const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
    if (got <= 0) {
      return false;
    }
    io::ByteBuffer plain;
    io::ByteBuffer out;
    engine_->Receive(io::Bytes(chunk).first(static_cast<std::size_t>(got)), plain, out);
    received_.append(plain.Readable().begin(), plain.Readable().end());
    Flush(out);
    return true;
  }
  // Turns until the plaintext contains `text`, the state is no longer `state`, or the
  // time is up.
  std::string ReceiveWhile(EngineState state, std::string_view text) {
    while (engine_->state() == state && received_.find(text) == std::string::npos &&
           ReceiveOnce()) {
    }
    return received_;
  }

 private:
  void Flush(io::ByteBuffer& out) {
    while (!out.empty()) {
      pollfd wait{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      ASSERT_GT(::poll(&wait, 1, kTimeoutMs), 0);
      const ssize_t sent = ::send(fd_.get(), out.Readable().data(), out.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0);
      out.Consume(static_cast<std::size_t>(sent));
    }
  }
  base::UniqueFd fd_;
  std::unique_ptr<Engine> engine_;
  std::string received_;
};

// A name that no line of openssl's own output holds.
const std::string kNever = "\x01never";

class EngineInteropTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(std::system("openssl version > /dev/null"), 0) << "install the package openssl";
    std::string pattern = testing::TempDir() + "weir-interop-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    const auto material = pki_.Issue("/ns/x/sa/openssl", "node-x");
    std::ofstream(File("chain.pem")) << material.certificate_chain_pem;
    std::ofstream(File("key.pem")) << material.private_key_pem.Reveal();
    std::ofstream(File("root.pem")) << pki_.root().Pem();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string File(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] std::vector<std::string> Arguments(const std::string& role) const {
    return {"openssl",         role,          "-tls1_3",         "-cert",
            File("chain.pem"), "-cert_chain", File("chain.pem"), "-key",
            File("key.pem"),   "-CAfile",     File("root.pem"),  "-verify_return_error"};
  }

  const base::Clock& clock_ = base::SystemClock();
  test::TestPki pki_{"one.test", clock_};
  std::shared_ptr<const WorkloadTls> workload_ = pki_.Workload("/ns/a/sa/alice", "node-a");
  std::string directory_;
};

TEST_F(EngineInteropTest, ServesOpensslClient) {
  const auto any = base::Endpoint::Parse("127.0.0.1:0");
  auto listener = io::ListenTcp(*any, 1);
  ASSERT_TRUE(listener.has_value());
  const auto address = base::LocalEndpoint(listener->get());
  auto arguments = Arguments("s_client");
  for (const std::string extra :
       {"-connect", "", "-alpn", "other,weir/1", "-verify", "3", "-servername", "bob.test"}) {
    arguments.push_back(extra.empty() ? address->ToString() : extra);
  }
  Program client(arguments);
  pollfd wait{.fd = listener->get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&wait, 1, kTimeoutMs), 1);
  base::UniqueFd fd(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_TRUE(fd.valid());
  Wire server(std::move(fd), Engine::Server(workload_));
  server.ReceiveWhile(EngineState::kHandshaking, kNever);
  ASSERT_EQ(server.engine().state(), EngineState::kOpen) << server.engine().failure_text();
  EXPECT_EQ(server.engine().peer().spiffe_id, "spiffe://one.test/ns/x/sa/openssl");
  EXPECT_EQ(server.engine().peer().node, "node-x");
  EXPECT_EQ(server.engine().alpn(), "weir/1");
  const std::string& greeting = client.ReadUntil("Verify return code");
  EXPECT_NE(greeting.find("ALPN protocol: weir/1"), std::string::npos);
  EXPECT_NE(greeting.find("Verify return code: 0 (ok)"), std::string::npos) << greeting;
  client.Write("hello from openssl\n");
  EXPECT_EQ(server.ReceiveWhile(EngineState::kOpen, "\n"), "hello from openssl\n");
  client.Write("K\n");  // a KeyUpdate that asks for one back
  ASSERT_TRUE(server.ReceiveOnce());
  client.Write("after the update\n");
  EXPECT_EQ(server.ReceiveWhile(EngineState::kOpen, "update\n"),
            "hello from openssl\nafter the update\n");
  server.Send("hello from weir\n");
  EXPECT_NE(client.ReadUntil("hello from weir\n").find("hello from weir\n"), std::string::npos);
}

TEST_F(EngineInteropTest, ConnectsToOpensslServer) {
  auto arguments = Arguments("s_server");
  for (const std::string extra : {"-accept", "127.0.0.1:0", "-alpn", "weir/1", "-Verify", "3"}) {
    arguments.push_back(extra);
  }
  Program server(arguments);
  const std::string greeting = server.ReadUntil("ACCEPT 127.0.0.1:");
  const std::string wanted = "ACCEPT ";
  const std::size_t at = greeting.find(wanted);
  ASSERT_NE(at, std::string::npos) << greeting;
  const auto end = server.ReadUntil("\n").find('\n', at);
  const auto address = base::Endpoint::Parse(
      server.ReadUntil("\n").substr(at + wanted.size(), end - at - wanted.size()));
  ASSERT_TRUE(address.has_value());
  auto fd = io::ConnectTcp(*address);
  ASSERT_TRUE(fd.has_value());
  pollfd wait{.fd = fd->get(), .events = POLLOUT, .revents = 0};
  ASSERT_EQ(::poll(&wait, 1, kTimeoutMs), 1);
  Wire client(std::move(*fd), Engine::Client(workload_, kAlpnWeir));
  client.Start();
  client.ReceiveWhile(EngineState::kHandshaking, kNever);
  ASSERT_EQ(client.engine().state(), EngineState::kOpen) << client.engine().failure_text();
  EXPECT_EQ(client.engine().peer().spiffe_id, "spiffe://one.test/ns/x/sa/openssl");
  client.Send("hello from weir\n");
  const std::string& log = server.ReadUntil("hello from weir\n");
  EXPECT_NE(log.find("hello from weir\n"), std::string::npos);
  EXPECT_NE(log.find("CIPHER is TLS_AES_128_GCM_SHA256"), std::string::npos) << log;
  EXPECT_NE(log.find("Shared groups: secp256r1:x25519"), std::string::npos) << log;
  server.Write("hello from openssl\n");
  EXPECT_EQ(client.ReceiveWhile(EngineState::kOpen, "\n"), "hello from openssl\n");
  server.Write("K\n");  // a KeyUpdate that asks for one back
  ASSERT_TRUE(client.ReceiveOnce());
  server.Write("after the update\n");
  EXPECT_EQ(client.ReceiveWhile(EngineState::kOpen, "update\n"),
            "hello from openssl\nafter the update\n");
  client.Send("new key\n");
  EXPECT_NE(server.ReadUntil("new key\n").find("new key\n"), std::string::npos);
}

}  // namespace
}  // namespace weir::tls
