#include "tests/support/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace weir::test {
namespace {

constexpr std::chrono::seconds kPatience{30};

bool Drain(base::UniqueFd& fd, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
  if (count <= 0) {
    fd.Reset();
    return false;
  }
  text.append(buffer.data(), static_cast<std::size_t>(count));
  return true;
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const Environment& environment) {
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
  EXPECT_EQ(::pipe2(err.data(), O_CLOEXEC), 0);
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) {
    variables.push_back(name + "=" + value);
  }
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (const auto& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  for (const auto& variable : variables) {
    envp.push_back(const_cast<char*>(variable.c_str()));
  }
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    (void)::dup2(out[1], STDOUT_FILENO);
    (void)::dup2(err[1], STDERR_FILENO);
    (void)::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  (void)::close(out[1]);
  (void)::close(err[1]);
  out_.Reset(out[0]);
  err_.Reset(err[0]);
}

Program::~Program() {
  if (pid_ > 0) {
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
  }
}

bool Program::ReadOnce(std::chrono::milliseconds patience) {
  std::array<pollfd, 2> fds = {{{.fd = out_.get(), .events = POLLIN, .revents = 0},
                                {.fd = err_.get(), .events = POLLIN, .revents = 0}}};
  if (::poll(fds.data(), fds.size(), static_cast<int>(patience.count())) <= 0) {
    return false;
  }
  if (fds[0].revents != 0) {
    (void)Drain(out_, result_.out);
  }
  if (fds[1].revents != 0) {
    (void)Drain(err_, result_.err);
  }
  return true;
}

bool Program::WaitForOutput(const std::string& text) {
  while (result_.out.find(text) == std::string::npos) {
    if (!out_.valid() || !ReadOnce(kPatience)) {
      return false;
    }
  }
  return true;
}

void Program::Signal(int number) const {
  EXPECT_EQ(::kill(pid_, number), 0);
}

ProgramResult Program::Wait() {
  while (out_.valid() || err_.valid()) {
    if (!ReadOnce(kPatience)) {
      ADD_FAILURE() << "the program does not end";
      (void)::kill(pid_, SIGKILL);
      break;
    }
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result_;
}

}  // namespace weir::test
