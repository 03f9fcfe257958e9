#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"
#include "agent/proxy/worker.h"
#include "agent/seam/causality.h"
#include "agent/seam/interception.h"
#include "tests/support/test_pki.h"

// Several nodes' workers in one process over loopback: real sockets, real TLS, real
// tunnels. Only what the kernel programs do is replaced: every pod has an address of
// 127.0.0.0/8, its inbound listener is bound where its application seems to be, and the
// application itself listens on another address.
namespace weir::test {

inline constexpr std::chrono::milliseconds kBedWait{5000};

// FakeKernel plays both seams. Any thread.
class FakeKernel final : public seam::SocketFactory, public seam::Redirections {
 public:
  void AddWorkload(model::LocalId id, const base::IpAddress& address);
  // Deliveries to `seems` go to `really`.
  void AddApplication(const base::Endpoint& seems, const base::Endpoint& really);
  // What TakeOriginalDestination will say of a connection from `client`.
  void Record(const base::Endpoint& client, const seam::OriginalDestination& original);
  // Witnesses get lost, as with a rule that drops them. `sink` takes their connections.
  void DropWitnesses(std::optional<base::Endpoint> sink);
  // Tunnels to `destination` really go to `instead`, as with a wrong or lying registry.
  void Divert(const base::Endpoint& destination, const base::Endpoint& instead);
  // The next `count` deliveries get no answer.
  void StallDeliveries(int count, const base::Endpoint& black_hole);
  [[nodiscard]] int connects(seam::LegKind kind) const;

  base::Result<base::UniqueFd> Connect(const seam::ConnectRequest& request) override;
  std::optional<seam::OriginalDestination> TakeOriginalDestination(
      const seam::Listener& listener, const base::ConnectionTuple& accepted) override;
  model::LocalId InboundOwner(const seam::Listener& listener, const base::Endpoint& local) override;
  std::optional<seam::OwnLeg> FindOwnLeg(model::LocalId source,
                                         const base::ConnectionTuple& accepted) override;

 private:
  [[nodiscard]] base::Endpoint PlaceOf(const seam::ConnectRequest& request);

  mutable std::mutex mutex_;
  std::map<model::LocalId, base::IpAddress> addresses_;
  std::map<base::Endpoint, base::Endpoint> applications_;
  std::map<base::Endpoint, base::Endpoint> diverted_;
  std::map<base::Endpoint, seam::OriginalDestination> records_;
  std::map<base::Endpoint, seam::OwnLeg> legs_;
  std::map<seam::LegKind, int> connects_;
  std::optional<base::Endpoint> witness_sink_;
  std::optional<base::Endpoint> black_hole_;
  int stalled_ = 0;
};

// FakeCausality keeps what it is told of deliveries, and says what a test wants. Any thread.
class FakeCausality final : public seam::Causality {
 public:
  struct Begun {
    std::uint32_t handle = 0;
    seam::ParentContext context;
  };
  // What the next TakeHint answers.
  void Say(const seam::ParentHint& hint);
  [[nodiscard]] std::vector<Begun> begun() const;
  [[nodiscard]] int held() const;  // handles that were not released
  [[nodiscard]] int multiplexed() const;
  [[nodiscard]] int streams() const;  // connections marked
  [[nodiscard]] int ended() const;
  [[nodiscard]] int asked() const;

  std::uint32_t AcquireHandle(std::uint32_t worker) override;
  void ReleaseHandle(std::uint32_t worker, std::uint32_t handle) override;
  void BeginRequest(std::uint32_t handle, const seam::ParentContext& context) override;
  void MarkMultiplexed(std::uint32_t handle) override;
  void MarkStreams(std::uint32_t handle) override;
  void EndRequest(std::uint32_t handle, bool broken_off) override;
  std::optional<seam::ParentHint> TakeHint(model::LocalId source,
                                           const base::ConnectionTuple& accepted) override;

 private:
  mutable std::mutex mutex_;
  std::optional<seam::ParentHint> next_;
  std::vector<Begun> begun_;
  std::uint32_t last_handle_ = 0;
  int held_ = 0;
  int multiplexed_ = 0;
  int streams_ = 0;
  int ended_ = 0;
  int asked_ = 0;
};

// Rules for a pod: `effect` for whoever the match names. Later ones do not replace earlier ones.
struct BedRule {
  model::PermissionEffect effect = model::PermissionEffect::kAllow;
  model::PermissionMatch match;
  std::string name = "rule";
};
std::shared_ptr<const model::PermissionSet> MakePermissions(const std::vector<BedRule>& rules);

// Keeps what the workers of a node offer. Any thread.
class RecordCollector final : public observe::RecordSink {
 public:
  void Offer(std::vector<observe::Record>&& records) noexcept override;
  // The first `count` records, fewer after kBedWait.
  std::vector<observe::Record> Wait(std::size_t count);
  // The first record that `wanted` accepts.
  std::optional<observe::Record> WaitFor(const std::function<bool(const observe::Record&)>& wanted);
  [[nodiscard]] std::size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<observe::Record> records_;
};

struct BedPod {
  model::LocalId id = model::LocalId::kNone;
  std::string name;
  std::size_t node = 0;
  base::IpAddress address;
  base::Endpoint outbound;  // where the connect() hooks lead
  std::shared_ptr<model::Workload> workload;
  model::TlsMode tls_mode = model::TlsMode::kStrict;
  model::Causality causality = model::Causality::kInferred;
  model::TraceSettings trace{};
  // Who may call it: everybody of the trust domain, unless a test says something else.
  std::shared_ptr<const model::PermissionSet> permissions;
  bool enrolled = true;
};

class ProxyBed {
 public:
  // One worker set per entry of `workers`, each a node "node-0", "node-1", ...
  explicit ProxyBed(std::vector<std::uint32_t> workers = {1, 1});
  ProxyBed(const ProxyBed&) = delete;
  ProxyBed& operator=(const ProxyBed&) = delete;
  ~ProxyBed();

  // Makes a pod with an outbound listener; known to the nodes after Publish.
  std::size_t AddPod(std::size_t node, const std::string& name,
                     model::TlsMode mode = model::TlsMode::kStrict);
  // Gives the pod an application: a listening socket for the test, and the inbound
  // listener in front of it. Returns where it seems to be.
  struct Application {
    base::UniqueFd listener;
    base::Endpoint endpoint;
  };
  Application Expose(std::size_t pod, model::ProtocolHint hint = model::ProtocolHint::kNone,
                     std::uint32_t worker = 0);
  // An inbound listener on a further port of the pod, with nobody behind it.
  base::Endpoint ExposeDead(std::size_t pod);
  // The pod takes tunnels on port 15008.
  void ExposeHbone(std::size_t pod);
  // Builds a snapshot of all pods and installs it on every node, or on one.
  void Publish(std::optional<std::size_t> only = std::nullopt);
  // Gives the pod an SVID of `path` ("" its own) from `node` ("" its own).
  void IssueCredential(std::size_t pod, const std::string& path = "", const std::string& node = "");

  // The pod's application connects to `destination`: blocking, timed, connected.
  base::UniqueFd Connect(std::size_t pod, const base::Endpoint& destination);
  // A connection from outside to where an application seems to be.
  base::UniqueFd ConnectFromOutside(const base::Endpoint& endpoint);

  // An address of this bed that nobody has.
  base::IpAddress FreshAddress();
  [[nodiscard]] BedPod& pod(std::size_t index) { return pods_[index]; }
  [[nodiscard]] proxy::WorkerSet& workers(std::size_t node) { return *nodes_[node]->workers; }
  [[nodiscard]] RecordCollector& records(std::size_t node) { return nodes_[node]->records; }
  [[nodiscard]] FakeKernel& kernel() { return kernel_; }
  [[nodiscard]] FakeCausality& causality() { return causality_; }
  [[nodiscard]] model::Limits& limits() { return limits_; }
  [[nodiscard]] const TestPki& pki() const { return pki_; }
  [[nodiscard]] std::uint64_t Reasons(std::size_t node, observe::Reason reason) const;
  // Whether the reason comes to be counted, once.
  [[nodiscard]] bool SeesReason(std::size_t node, observe::Reason reason) const;
  // Waits until `ready`; false after kBedWait.
  static bool Eventually(const std::function<bool()>& ready);

 private:
  void AddInbound(const BedPod& pod, const base::Endpoint& endpoint, std::uint32_t worker);

  struct Node {
    std::string name;
    RecordCollector records;
    std::unique_ptr<proxy::WorkerSet> workers;
  };

  FakeKernel kernel_;
  FakeCausality causality_;
  TestPki pki_;
  model::Limits limits_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<BedPod> pods_;
  std::uint64_t revision_ = 0;
  std::uint32_t range_ = 0;  // a /18, the mesh's
  std::uint32_t next_id_ = 1;
};

// Small blocking helpers over connected sockets; waits are bounded by kBedWait.
bool SendText(int fd, std::string_view text);
// Exactly `size` bytes, or what came until the end.
std::string ReceiveText(int fd, std::size_t size);
// What ends a connection.
enum class StreamEnd : std::uint8_t { kFin, kReset, kNothing };
StreamEnd ReceiveEnd(int fd);
void HalfClose(int fd);
// Carries bytes between two sockets, until both have ended; for a thread of its own.
void PassBothWays(int one, int other);

}  // namespace weir::test
