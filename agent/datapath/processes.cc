#include "agent/datapath/processes.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <utility>

#include "agent/base/file.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxListBytes = 1ULL << 20U;

// Processes that come and go meanwhile are missed or gone when they are looked at.
void AddProcesses(const std::filesystem::path& directory, std::vector<pid_t>& pids) {
  const auto text = base::ReadFile((directory / "cgroup.procs").string(), kMaxListBytes);
  std::istringstream words(text.value_or(""));
  for (pid_t pid = 0; pids.size() < kMaxProcesses && words >> pid;) {
    if (pid > 0) {  // 0: of another pid namespace
      pids.push_back(pid);
    }
  }
}

}  // namespace

std::vector<pid_t> ProcessesOfCgroup(const std::string& path) {
  std::vector<pid_t> pids;
  AddProcesses(path, pids);
  std::error_code error;
  std::filesystem::recursive_directory_iterator at(path, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    std::error_code ignored;
    if (at->is_directory(ignored)) {
      AddProcesses(at->path(), pids);
    }
  }
  return pids;
}

std::vector<std::pair<pid_t, NetnsIdentity>> AllProcesses() {
  std::vector<std::pair<pid_t, NetnsIdentity>> all;
  std::error_code error;
  std::filesystem::directory_iterator at("/proc", error);
  for (; !error && at != std::filesystem::directory_iterator() && all.size() < kMaxProcesses;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure != std::errc() || end != name.data() + name.size()) {
      continue;
    }
    if (const auto identity = IdentifyNetns("/proc/" + name + "/ns/net")) {
      all.emplace_back(pid, *identity);
    }
  }
  return all;
}

}  // namespace weir::datapath
