#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "bpf/abi/interception.h"

struct bpf_link;
struct bpf_program;

// The programs and maps of interception, and the links that attach them. Everything
// that calls libbpf is behind this header, map_access.h and features.h.
namespace weir::datapath {

// BpfLink owns one attachment. Destroying it detaches, unless it is pinned.
class BpfLink {
 public:
  BpfLink() = default;
  explicit BpfLink(bpf_link* link) : link_(link) {}
  BpfLink(BpfLink&& other) noexcept : link_(std::exchange(other.link_, nullptr)) {}
  BpfLink& operator=(BpfLink&& other) noexcept;
  BpfLink(const BpfLink&) = delete;
  BpfLink& operator=(const BpfLink&) = delete;
  ~BpfLink() { Reset(); }

  // Opens the link pinned at `path`; empty when there is none.
  static base::Result<std::optional<BpfLink>> OpenPinned(const std::string& path);

  struct Info {
    std::uint32_t link_id = 0;
    std::uint32_t program_id = 0;
    std::uint64_t target =
        0;  // cgroup id, or inode of the network namespace; 0: detached; 1: neither
  };
  [[nodiscard]] base::Result<Info> info() const;
  [[nodiscard]] bool valid() const { return link_ != nullptr; }
  [[nodiscard]] bool pinned() const;
  // Exchanges the program of the link in one step.
  base::Result<void> Update(const bpf_program* program);
  base::Result<void> Pin(const std::string& path);
  base::Result<void> Unpin();
  void Reset();

 private:
  bpf_link* link_ = nullptr;
};

// The hooks that all workloads share; each is on a cgroup but the tracing ones.
enum class Hook : std::uint8_t {
  kConnect4,
  kConnect6,
  kGetpeername4,
  kGetpeername6,
  kSockops,
  kListenEnd,
  kCgroupMkdir,
  kCgroupRmdir
};
// In the order of attachment: what records before what redirects.
inline constexpr Hook kHooks[] = {Hook::kListenEnd,    Hook::kSockops,    Hook::kGetpeername4,
                                  Hook::kGetpeername6, Hook::kConnect4,   Hook::kConnect6,
                                  Hook::kCgroupMkdir,  Hook::kCgroupRmdir};
// "connect4", ...; also the name of its pin.
const char* ToString(Hook hook);

enum class Map : std::uint8_t {
  kNetns,
  kCgroups,
  kHost,
  kExpected,
  kArrivals,
  kPorts,
  kListeners,
  kSockets,
  kOriginals,
  kLegs,
  kListening,
  kLocalAddresses,
  kCounters
};

// Programs is one loaded set. Nothing is attached by loading.
class Programs {
 public:
  // Fails with the end of the verifier's log.
  static base::Result<std::unique_ptr<Programs>> Load(unsigned worker_count);
  virtual ~Programs() = default;

  // Descriptor of a map; lives as long as this.
  [[nodiscard]] virtual int map(Map which) const = 0;
  // Kernel's id of a shared hook's program.
  [[nodiscard]] virtual std::uint32_t id(Hook hook) const = 0;
  // Attaches one of the shared hooks, to a cgroup directory where it needs one.
  [[nodiscard]] virtual base::Result<BpfLink> Attach(Hook hook, int cgroup_fd) const = 0;
  // Whether the listener's end is seen by fentry; else by a tracepoint of every socket.
  [[nodiscard]] virtual bool has_fentry() const = 0;
  // Whether new cgroups are seen (kCgroupMkdir and kCgroupRmdir can be attached).
  [[nodiscard]] virtual bool sees_cgroups() const = 0;
  // Readable when an expected cgroup was made; -1 without sees_cgroups().
  [[nodiscard]] virtual int arrivals_fd() const = 0;
  // Makes arrivals_fd() unreadable until the next one.
  virtual void TakeArrivals() = 0;
  // Puts a cgroup hook's program into a link that exists.
  [[nodiscard]] virtual base::Result<void> Replace(Hook hook, BpfLink& link) const = 0;
  // Loads the lookup program of one namespace and attaches it there, or puts it into
  // `former`, the pinned link of an earlier run.
  [[nodiscard]] virtual base::Result<BpfLink> AttachLookup(int netns_fd, std::uint64_t cookie,
                                                           std::optional<BpfLink> former) const = 0;
  // Counts the listening sockets of the calling thread's namespace that are not yet.
  [[nodiscard]] virtual base::Result<void> CountListeners() const = 0;
};

// Keeps libbpf's messages (with the verifier's log) of the calling thread; the last few
// lines go into errors.
void CaptureLibbpfLog();
std::string TakeLibbpfLog();

}  // namespace weir::datapath
