// What one hit of a probe in a Go program costs, and one mark of a Node.js program: CPU time
// of this process, with and without, in turns. Needs root.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <optional>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_map.h"
#include "agent/datapath/cgroup.h"
#include "agent/datapath/netns.h"
#include "agent/datapath/runtime_program.h"
#include "bpf/abi/causality.h"

// Stands for functions of a Go program: the probe is on a jump, as there.
asm(R"(
.text
weir_probed:
  cmp %rsp, %rsp
weir_probe:
  jbe 1f
1:
  ret
weir_never_called:
  ret
)");
extern "C" void weir_probed();
extern "C" void weir_probe();
extern "C" void weir_never_called();

namespace weir::datapath {
namespace {

constexpr unsigned kRounds = 9;
constexpr unsigned kHits = 20000;

template <typename T>
T Must(base::Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().ToString().c_str());
    std::exit(1);
  }
  return std::move(*result);
}

double NanosecondsEach(const std::function<void()>& once) {
  const auto now = [] {
    timespec time{};
    (void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  for (unsigned i = 0; i < kHits; ++i) {
    once();
  }
  return (now() - start) / kHits;
}

double Median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<long>(values.size() / 2));
  return values[values.size() / 2];
}

// Offset in this program's file of a function of its own.
std::uint64_t OffsetInFile(std::uintptr_t address) {
  std::FILE* maps = std::fopen("/proc/self/maps", "re");
  unsigned long start = 0;
  unsigned long end = 0;
  unsigned long offset = 0;
  while (maps != nullptr &&
         std::fscanf(maps, "%lx-%lx %*s %lx%*[^\n]", &start, &end, &offset) == 3) {
    if (address >= start && address < end) {
      (void)std::fclose(maps);
      return address - start + offset;
    }
  }
  std::exit(1);
}

void Compare(const char* what, const std::function<void()>& once,
             const std::function<void(bool)>& hook) {
  std::vector<double> with;
  std::vector<double> without;
  for (unsigned round = 0; round < kRounds; ++round) {
    hook(true);
    with.push_back(NanosecondsEach(once));
    hook(false);
    without.push_back(NanosecondsEach(once));
  }
  std::printf("%s: %.0f ns with the hook, %.0f ns without\n", what, Median(with), Median(without));
}

int Main() {
  const auto programs = Must(Programs::Load(1));
  const auto parent = Must(ParentProgram::Load(*programs));
  const auto runtime = Must(RuntimeProgram::Load(*programs, *parent));
  const std::uint64_t cookie = Must(OwnNetnsCookie());
  (void)MapSet(programs->map(Map::kNetns), cookie,
               weir_workload{.local_id = 1,
                             .flags = WEIR_WORKLOAD_INFER | WEIR_WORKLOAD_GO | WEIR_WORKLOAD_NODE});
  const base::UniqueFd self(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const GoHttpFunctions functions{
      .round_trip = OffsetInFile(reinterpret_cast<std::uintptr_t>(&weir_probe)),
      .write_loop = OffsetInFile(reinterpret_cast<std::uintptr_t>(&weir_never_called))};
  std::optional<GoProbes> probes;
  Compare("a probe", weir_probed, [&](bool on) {
    probes.reset();
    if (on) {
      probes = Must(runtime->ProbeGo(self.get(), functions));
    }
  });
  probes.reset();

  const base::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  (void)::listen(listener.get(), 1);
  const auto to = base::ToSockaddr(base::LocalEndpoint(listener.get()).value());
  const base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  (void)::connect(socket.get(), to.get(), to.length);
  const base::UniqueFd cgroup(
      ::open(Must(FindCgroupMount()).path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::optional<BpfLink> marks;
  const auto mark = [&] {
    const int on = 1;
    const std::uint32_t idle = WEIR_MARK;
    (void)::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  };
  const auto other = [&] {
    const int on = 1;
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  };
  const auto hook = [&](bool on) {
    marks.reset();
    if (on) {
      marks = Must(runtime->TakeNodeMarks(cgroup.get()));
    }
  };
  Compare("a mark (two setsockopt)", mark, hook);
  Compare("another setsockopt", other, hook);
  MapErase(programs->map(Map::kNetns), cookie);
  return 0;
}

}  // namespace
}  // namespace weir::datapath

int main() {
  return weir::datapath::Main();
}
