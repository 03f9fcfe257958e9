#include <bpf/libbpf.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "agent/base/file.h"
#include "agent/datapath/cgroup.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/parent_program.h"
#include "agent/datapath/pin_directory.h"
#include "agent/datapath/programs.h"

namespace weir::datapath {
namespace {

constexpr int kOldestMajor = 6;
constexpr int kOldestMinor = 1;
constexpr char kBtfPath[] = "/sys/kernel/btf/vmlinux";
constexpr std::size_t kMaxSmallFileBytes = 4096;
// Descriptors of a workload: 2 kinds of listeners in 2 families per worker, its handle and
// link; and what connections and tunnels of an ordinary one hold.
constexpr unsigned kListenersPerWorker = 4;
constexpr unsigned kConnectionsPerWorkload = 256;
constexpr unsigned kDescriptorsOfAgent = 256;

CheckResult Check(const char* code, const char* category) {
  CheckResult result;
  result.code = code;
  result.category = category;
  return result;
}

CheckResult Ok(CheckResult result, std::string fact) {
  result.outcome = CheckOutcome::kOk;
  result.fact = std::move(fact);
  return result;
}

CheckResult Bad(CheckResult result, CheckOutcome outcome, std::string fact, std::string remedy) {
  result.outcome = outcome;
  result.fact = std::move(fact);
  result.remedy = std::move(remedy);
  return result;
}

CheckResult CheckKernel() {
  auto result = Check("WK101", "kernel");
  utsname name{};
  int major = 0;
  int minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) {
    return Bad(std::move(result), CheckOutcome::kUnknown, "the kernel does not tell its version",
               "uname -r");
  }
  const std::string fact = std::string("kernel ") + name.release;
  if (std::pair(major, minor) < std::pair(kOldestMajor, kOldestMinor)) {
    return Bad(std::move(result), CheckOutcome::kFail, fact + " is older than 6.1",
               "use a machine image with kernel 6.1 or newer");
  }
  return Ok(std::move(result), fact);
}

CheckResult CheckBtf() {
  auto result = Check("WK102", "kernel");
  if (::access(kBtfPath, R_OK) != 0) {
    return Bad(std::move(result), CheckOutcome::kFail,
               std::string("no kernel type information at ") + kBtfPath,
               "use a kernel built with CONFIG_DEBUG_INFO_BTF=y");
  }
  return Ok(std::move(result), std::string("kernel type information at ") + kBtfPath);
}

// Loads every program for real, and attaches none.
CheckResult CheckPrograms() {
  auto result = Check("WK103", "kernel");
  auto programs = Programs::Load(/*worker_count=*/1);
  if (!programs) {
    return Bad(std::move(result), CheckOutcome::kFail, programs.error().message(),
               programs.error().remedy());
  }
  if (!(*programs)->has_fentry()) {
    return Bad(std::move(result), CheckOutcome::kWarn,
               "fentry refused; using a tracepoint for the end of listening sockets",
               "nothing has to be done; a kernel built with "
               "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y saves the tracepoint");
  }
  return Ok(std::move(result), "all programs and maps load");
}

// Without it weir works, and joins requests by forwarded headers only.
CheckResult CheckCausality() {
  auto result = Check("WK110", "kernel");
  auto programs = Programs::Load(/*worker_count=*/1);
  if (!programs) {
    return Bad(std::move(result), CheckOutcome::kUnknown, "the programs do not load: see WK103",
               "");
  }
  if (auto parent = ParentProgram::Load(**programs); !parent) {
    return Bad(std::move(result), CheckOutcome::kWarn,
               parent.error().message() + "; parents come from forwarded headers only",
               "boot a kernel of 6.16 or later");
  }
  return Ok(std::move(result), "the hooks that tell a request's parent attach");
}

CheckResult CheckCgroup(const Options& options) {
  auto result = Check("WK104", "system");
  if (!options.cgroup_path.empty()) {
    const auto known = IdentifyCgroup(options.cgroup_path);
    return known ? Ok(std::move(result), "cgroup2 directory " + options.cgroup_path)
                 : Bad(std::move(result), CheckOutcome::kFail, known.error().message(),
                       "correct the cgroup path in agent.yaml");
  }
  const auto mount = FindCgroupMount();
  if (!mount) {
    return Bad(std::move(result), CheckOutcome::kFail, mount.error().message(),
               mount.error().remedy());
  }
  return Ok(std::move(result), "cgroup2 at " + mount->path +
                                   (mount->hybrid ? " (hybrid: cgroup v1 is mounted too)" : ""));
}

CheckResult CheckBpffs(const Options& options) {
  auto result = Check("WK105", "system");
  const auto existing = FindBpfFileSystem(options.bpffs_dir);
  if (!existing) {
    return Bad(std::move(result), CheckOutcome::kFail, existing.error().message(),
               existing.error().remedy());
  }
  if (::access(existing->c_str(), W_OK) != 0) {
    return Bad(std::move(result), CheckOutcome::kFail, *existing + " is not writable",
               "run as root, or mount it read-write");
  }
  return Ok(std::move(result), "BPF file system at " + *existing);
}

CheckResult CheckCapabilities() {
  auto result = Check("WK106", "privileges");
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) {
    return Bad(std::move(result), CheckOutcome::kUnknown, "capabilities cannot be read",
               "grep Cap /proc/self/status");
  }
  constexpr std::array kNeeded = {
      std::pair{CAP_BPF, "CAP_BPF"}, std::pair{CAP_NET_ADMIN, "CAP_NET_ADMIN"},
      std::pair{CAP_PERFMON, "CAP_PERFMON"}, std::pair{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}};
  std::string missing;
  for (const auto& [bit, name] : kNeeded) {
    const auto index = static_cast<std::size_t>(bit) / 32;
    if ((data.at(index).effective & (1U << (static_cast<unsigned>(bit) % 32U))) == 0) {
      missing += missing.empty() ? name : std::string(", ") + name;
    }
  }
  if (!missing.empty()) {
    return Bad(std::move(result), CheckOutcome::kFail, missing + " missing",
               "run as root, or add them to the unit's CapabilityBoundingSet");
  }
  return Ok(std::move(result), "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN held");
}

CheckResult CheckLockdown() {
  auto result = Check("WK107", "privileges");
  const auto text = base::ReadFile("/sys/kernel/security/lockdown", kMaxSmallFileBytes);
  if (!text) {
    return Ok(std::move(result), "no kernel lockdown");
  }
  if (text->find("[confidentiality]") != std::string::npos) {
    return Bad(std::move(result), CheckOutcome::kFail,
               "kernel lockdown is \"confidentiality\", which forbids BPF to read the kernel",
               "boot with lockdown=integrity");
  }
  return Ok(std::move(result), "kernel lockdown does not forbid BPF");
}

CheckResult CheckSysctls() {
  auto result = Check("WK108", "system");
  if (::access("/proc/sys/net/ipv4/tcp_fwmark_accept", W_OK) != 0) {
    return Bad(std::move(result), CheckOutcome::kFail,
               "net.ipv4.tcp_fwmark_accept cannot be written: clients' addresses cannot be kept",
               "mount /proc/sys read-write");
  }
  const auto ports = base::ReadFile("/proc/sys/net/ipv4/ip_local_port_range", kMaxSmallFileBytes);
  unsigned low = 0;
  unsigned high = 0;
  if (ports && std::sscanf(ports->c_str(), "%u %u", &low, &high) == 2 && low <= 10240 &&
      high >= 65000) {
    return Bad(std::move(result), CheckOutcome::kWarn,
               "net.ipv4.ip_local_port_range=" + std::to_string(low) + "-" + std::to_string(high) +
                   " leaves hardly a port for connections that keep "
                   "their client's address",
               "sysctl -w net.ipv4.ip_local_port_range='32768 60999'");
  }
  return Ok(std::move(result), "sysctls let clients' addresses be kept");
}

CheckResult CheckLimits(const Options& options, unsigned workload_count) {
  auto result = Check("WK109", "system");
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return Bad(std::move(result), CheckOutcome::kUnknown, "the descriptor limit cannot be read",
               "ulimit -n");
  }
  const unsigned needed =
      kDescriptorsOfAgent +
      workload_count * (kListenersPerWorker * options.worker_count + kConnectionsPerWorkload + 2);
  const std::string fact = std::to_string(limit.rlim_max) + " descriptors allowed, about " +
                           std::to_string(needed) + " needed for " +
                           std::to_string(workload_count) + " workloads";
  if (limit.rlim_max < needed) {
    return Bad(std::move(result), CheckOutcome::kFail, fact,
               "set LimitNOFILE=" + std::to_string(needed * 2) + " in the unit");
  }
  return Ok(std::move(result), fact);
}

}  // namespace

base::Result<void> CheckMachine() {
  const auto check = [](CheckResult result, base::ErrorCode code) -> base::Result<void> {
    if (result.outcome != CheckOutcome::kFail) {
      return {};
    }
    return std::unexpected(
        base::Error(code, std::move(result.fact)).WithRemedy(std::move(result.remedy)));
  };
  auto checked = check(CheckCapabilities(), base::ErrorCode::kPermission);
  checked = checked ? check(CheckKernel(), base::ErrorCode::kUnsupported) : checked;
  checked = checked ? check(CheckBtf(), base::ErrorCode::kUnsupported) : checked;
  return checked ? check(CheckLockdown(), base::ErrorCode::kUnsupported) : checked;
}

std::vector<CheckResult> Preflight(const Options& options, unsigned workload_count) {
  return {CheckKernel(),        CheckBtf(),          CheckPrograms(),
          CheckCgroup(options), CheckBpffs(options), CheckCapabilities(),
          CheckLockdown(),      CheckSysctls(),      CheckLimits(options, workload_count),
          CheckCausality()};
}

}  // namespace weir::datapath
