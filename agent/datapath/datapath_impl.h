#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/datapath/cgroup.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/delivery_slots.h"
#include "agent/datapath/hooked_runtimes.h"
#include "agent/datapath/namespace.h"
#include "agent/datapath/parent_program.h"
#include "agent/datapath/pin_directory.h"
#include "agent/datapath/programs.h"
#include "agent/datapath/sockets.h"
#include "agent/datapath/worker_table.h"

namespace weir::datapath {

// The one implementation of Datapath; see datapath.h for the contract.
class DatapathImpl final : public Datapath {
 public:
  // What Create gathers before anything can fail no more.
  struct Parts {
    Options options;
    std::string cgroup_path;
    base::UniqueFd home;    // the agent's own network namespace
    base::UniqueFd cgroup;  // directory that the hooks are attached to
    PinDirectory pins;
    std::unique_ptr<Programs> programs;
    std::unique_ptr<ParentProgram> parent;    // null: the kernel cannot
    std::unique_ptr<RuntimeProgram> runtime;  // null: the kernel cannot, or there is no parent
    std::vector<Feature> features;
  };
  static base::Result<std::unique_ptr<Datapath>> Create(Parts parts);
  ~DatapathImpl() override { Stop(); }

  // Control thread; see Datapath.
  base::Result<std::vector<std::vector<seam::Listener>>> Enrol(const Enrolment& wanted) override;
  base::Result<void> Unenrol(model::LocalId id) override;
  base::Result<void> Expect(const std::vector<ExpectedCgroup>& cgroups) override;
  [[nodiscard]] int arrivals_fd() const override { return parts_.programs->arrivals_fd(); }
  void TakeArrivals() override { parts_.programs->TakeArrivals(); }
  base::Result<void> SetOnAgentDown(model::LocalId id, model::OnAgentDown mode) override;
  base::Result<void> SetInferParents(model::LocalId id, bool infer) override;
  base::Result<void> SetRuntimeHooks(model::LocalId id, const model::RuntimeHooks& hooks) override;
  unsigned DropUnclaimed() override;
  std::vector<model::LocalId> Sweep() override;
  base::Result<SelfProbe> Probe(model::LocalId id) override;
  [[nodiscard]] std::vector<EnrolmentStatus> Status() const override;
  [[nodiscard]] std::vector<HookStatus> Hooks() const override;
  [[nodiscard]] std::vector<KernelCounter> Counters() const override;
  [[nodiscard]] const std::vector<Feature>& Features() const override { return parts_.features; }
  [[nodiscard]] std::vector<PreexistingConnections> Preexisting() const override;
  [[nodiscard]] const std::string& cgroup_path() const override { return parts_.cgroup_path; }
  void Stop() override;

  // Workers; see agent/seam/interception.h.
  base::Result<base::UniqueFd> Connect(const seam::ConnectRequest& request) override {
    return legs_.Connect(request);
  }
  std::optional<seam::OriginalDestination> TakeOriginalDestination(
      const seam::Listener& listener, const base::ConnectionTuple& accepted) override;
  model::LocalId InboundOwner(const seam::Listener& listener,
                              const base::Endpoint& /*local*/) override {
    return listener.owner;
  }
  std::optional<seam::OwnLeg> FindOwnLeg(model::LocalId source,
                                         const base::ConnectionTuple& accepted) override;

  // Workers; see agent/seam/causality.h.
  std::uint32_t AcquireHandle(std::uint32_t worker) override { return slots_.Acquire(worker); }
  void ReleaseHandle(std::uint32_t worker, std::uint32_t handle) override {
    slots_.Release(worker, handle);
  }
  void BeginRequest(std::uint32_t handle, const seam::ParentContext& context) override {
    slots_.Begin(handle, context);
  }
  void MarkMultiplexed(std::uint32_t handle) override { slots_.MarkMultiplexed(handle); }
  void MarkStreams(std::uint32_t handle) override { slots_.MarkStreams(handle); }
  void EndRequest(std::uint32_t handle, bool broken_off) override {
    slots_.End(handle, broken_off);
  }
  std::optional<seam::ParentHint> TakeHint(model::LocalId source,
                                           const base::ConnectionTuple& accepted) override;

 private:
  struct Workload {
    Enrolment wanted;
    Namespace* ns = nullptr;
    std::optional<CgroupId> cgroup;  // empty: the whole namespace
    std::vector<weir_listener_key> listeners;
    std::set<std::uint64_t> older_connections;  // sock_diag's cookies
    SelfProbe last_probe;
    [[nodiscard]] bool closed() const {
      return wanted.on_agent_down == model::OnAgentDown::kClosed;
    }
    [[nodiscard]] weir_workload entry() const;
  };

  explicit DatapathImpl(Parts parts);

  // Start: takes over what an earlier run pinned, then attaches.
  void AdoptUnclaimed();
  base::Result<void> AttachHooks();

  // The steps of Enrol; each leaves what UndoEnrol can undo.
  base::Result<Namespace*> FindNamespace(const Enrolment& wanted);
  base::Result<std::vector<KeyedListener>> Intercept(Workload& workload);
  base::Result<void> Publish(Workload& workload);
  base::Result<void> WriteEntry(const Workload& workload);
  void TellWorkers(const Workload& workload);
  void NoteOlderConnections(Workload& workload);
  void HookRuntimes(const Workload& workload);
  // Takes a workload out of everything; it goes back to unclaimed when it was.
  base::Result<void> Remove(Workload& workload, bool was_unclaimed);
  base::Result<void> ReleaseNamespace(Namespace& ns);
  // Expected cgroups need the lookup of the agent's own namespace, enrolled units or not.
  base::Result<void> HoldHome();
  [[nodiscard]] bool IsUnclaimed(std::uint64_t cgroup) const;
  base::Result<Namespace*> OpenNamespace(const std::string& path);
  // Rules, routes and sysctls that a crash left where no workload is enrolled now.
  [[nodiscard]] base::Result<void> CleanUnusedNamespaces() const;

  // The state of the pins follows who is closed.
  base::Result<void> SyncPins();
  [[nodiscard]] bool AnyClosed() const;
  [[nodiscard]] bool NamespaceClosed(const Namespace& ns) const;
  base::Result<void> WriteHost();

  // Of the record of a connection that workload `of` opened, by what the agent's end sees.
  [[nodiscard]] std::optional<weir_tuple> KeyOf(model::LocalId of,
                                                const base::ConnectionTuple& accepted) const;
  // Ids of the cgroups of a workload; empty for a whole namespace.
  static std::set<std::uint64_t> SubtreeOf(const Workload& workload);
  [[nodiscard]] std::vector<netlink::TcpSocket> ConnectionsOf(const Workload& workload) const;
  void RefreshNamespace(Namespace& ns, const std::vector<weir_listening_key>& listening);
  [[nodiscard]] bool Vanished(const Workload& workload) const;
  [[nodiscard]] unsigned UsersOf(const Namespace& ns) const;
  [[nodiscard]] int map(Map which) const { return parts_.programs->map(which); }

  Parts parts_;
  Kernel kernel_;
  WorkerTable table_;
  LegMaker legs_;
  int originals_map_;  // for workers: map() looks for the name
  int legs_map_;
  DeliverySlots slots_;
  HookedRuntimes runtimes_;
  std::uint64_t home_cookie_ = 0;
  std::map<Hook, BpfLink> hooks_;
  std::map<std::uint64_t, std::unique_ptr<Namespace>> namespaces_;  // by cookie
  std::map<model::LocalId, Workload> workloads_;
  // Closed workloads of an earlier run that nobody has enrolled again.
  std::set<std::uint64_t> unclaimed_netns_;
  std::set<std::uint64_t> unclaimed_cgroups_;
  bool expecting_ = false;  // weir_expected has entries
  bool stopped_ = false;
};

// Undoes the rules, routes and sysctls of this instance in every namespace of the machine
// but those of `in_use` (cookies).
base::Result<void> CleanNamespaces(const Options& options, int home_fd,
                                   const std::set<std::uint64_t>& in_use);

// Tries each kernel feature; after the programs were loaded.
std::vector<Feature> ProbeFeatures(const Programs& programs);
// Whether requests get inferred parents, and whether runtimes can be asked: what loading the
// programs answered.
std::vector<Feature> CausalityFeatures(const base::Result<void>& loaded,
                                       const base::Result<void>& runtime);

// The self-probe of a workload in a namespace, or of one whose processes are in `cgroup`.
SelfProbe ProbeNamespace(int netns_fd, int home_fd);
SelfProbe ProbeCgroup(const std::string& cgroup);

// Names of pins; the version of bpf/abi is a part of those of maps.
inline constexpr char kNetnsPin[] = "v1_netns";
inline constexpr char kCgroupsPin[] = "v1_cgroups";

}  // namespace weir::datapath
