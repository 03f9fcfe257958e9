#include "agent/cli/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "agent/base/unique_fd.h"
#include "agent/cli/run.h"

namespace weir::cli {
namespace {

constexpr std::size_t kMaxOutputBytes = 16U << 20U;

Failure CannotRun(const std::string& program, int error) {
  const auto text = base::SystemError("run " + program, error);
  return {.exit_code = kExitUnreachable,
          .what = text.error().message(),
          .why = "the agent's program was found neither beside weir nor in PATH",
          .remedy = "install weir-agent, or add its directory to PATH"};
}

}  // namespace

Outcome<ProgramOutput> RunProgram(const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return std::unexpected(FromError(base::SystemError("make a pipe").error()));
  }
  const base::UniqueFd reader(ends[0]);
  base::UniqueFd writer(ends[1]);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));  // posix_spawn does not write to it
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  writer.Reset();
  if (error != 0) {
    return std::unexpected(CannotRun(arguments.front(), error));
  }
  ProgramOutput output;
  std::array<char, 65536> buffer{};
  ssize_t count = 0;
  while (output.text.size() < kMaxOutputBytes &&
         ((count = ::read(reader.get(), buffer.data(), buffer.size())) > 0 || errno == EINTR)) {
    output.text.append(buffer.data(), static_cast<std::size_t>(count > 0 ? count : 0));
    errno = 0;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

std::string FindAgentProgram() {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  const std::string self(path.data(), static_cast<std::size_t>(length > 0 ? length : 0));
  const std::size_t slash = self.rfind('/');
  if (slash != std::string::npos) {
    const std::string directory = self.substr(0, slash + 1);
    for (const std::string& beside : {directory + "weir-agent", directory + "../sbin/weir-agent"}) {
      if (::access(beside.c_str(), X_OK) == 0) {
        return beside;
      }
    }
  }
  return "weir-agent";
}

}  // namespace weir::cli
