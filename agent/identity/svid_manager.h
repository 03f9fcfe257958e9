#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/identity/certificate_authority.h"
#include "agent/identity/node_ca.h"
#include "agent/model/identity.h"
#include "agent/model/snapshot.h"
#include "agent/tls/workload_tls.h"

namespace weir::identity {

// One workload's certificate as `weir status` shows it; times in seconds since 1970,
// 0 and empty while there is none.
struct SvidStatus {
  model::LocalId id = model::LocalId::kNone;
  std::string spiffe_id;
  std::string serial;
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  std::int64_t next_renewal = 0;
  bool is_held = false;    // handed out and not withdrawn
  std::string last_error;  // why the last attempt failed; empty after a success
};

// The node's intermediate, likewise.
struct NodeCaStatus {
  std::string serial;
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  std::size_t root_count = 0;       // in the trust bundle
  std::int64_t first_root_end = 0;  // of the root that ends first
  std::string last_error;
};

// SvidManager keeps every enrolled workload of this node in possession of a valid SVID:
// issues at enrolment, renews at half life with jitter (F12), replaces all when the CA's
// files change, and withdraws what has expired. Control thread; no thread of its own:
// the owner calls Tick when NextDue says so, and after every change.
class SvidManager {
 public:
  struct Settings {
    NodeCaFiles files;
    std::string node;
    std::string trust_domain;
    std::chrono::seconds svid_lifetime = kMaxSvidLifetime;  // that at most
  };
  // Called from Tick and Remove, with null when a workload has no valid SVID any more.
  // Must not call back into the manager.
  using OnSvid =
      std::function<void(model::LocalId, const std::shared_ptr<const tls::WorkloadTls>&)>;

  // `clock` outlives the manager.
  SvidManager(Settings settings, const base::Clock& clock, OnSvid on_svid);
  SvidManager(const SvidManager&) = delete;
  SvidManager& operator=(const SvidManager&) = delete;
  ~SvidManager();

  // Reads the CA's files again (start, SIGHUP). On failure the CA in use stays and the
  // error stands in ca_status(). Tick does the same when the files change. Blocks.
  base::Result<void> Reload();

  // Makes these the enrolled workloads: new ones get an SVID at the next Tick, others
  // lose theirs now. A workload whose identity changed is a new one.
  void SetWorkloads(const std::vector<std::pair<model::LocalId, model::SpiffeId>>& workloads);

  // Does what is due: looks at the CA's files, withdraws, issues (kIssuesPerTick at most,
  // so that the control thread stays responsive).
  void Tick();
  // When to call Tick again: at once while there is a backlog, else within kCheckInterval,
  // which also bounds how long a step of the wall clock or a returned CA goes unnoticed.
  [[nodiscard]] base::MonotonicTime NextDue() const { return next_due_; }

  [[nodiscard]] std::vector<SvidStatus> Status() const;
  [[nodiscard]] const NodeCaStatus& ca_status() const { return ca_status_; }
  // Whether every enrolled workload has a valid SVID (readiness).
  [[nodiscard]] bool ready() const;

  static constexpr std::size_t kIssuesPerTick = 64;
  static constexpr std::chrono::seconds kCheckInterval{2};
  static constexpr std::chrono::seconds kFirstBackoff{1};
  static constexpr std::chrono::seconds kMaxBackoff{30};

 private:
  struct Entry {
    model::SpiffeId identity;
    SvidStatus status;
    base::MonotonicTime due{};  // of the next attempt
    std::chrono::seconds backoff{0};
  };
  // Tells a changed file from an unchanged one.
  struct FileStamp {
    std::uint64_t inode = 0;
    std::int64_t size = -1;
    std::int64_t modified_ns = 0;
    friend bool operator==(const FileStamp&, const FileStamp&) = default;
  };
  using Stamps = std::array<FileStamp, 3>;

  [[nodiscard]] Stamps StampFiles() const;
  [[nodiscard]] std::int64_t WallSeconds() const;
  [[nodiscard]] bool WallSaysDue(const Entry& entry, std::int64_t now) const;
  void LookAtFiles();
  void WithdrawIfInvalid(Entry& entry, std::int64_t now);
  void IssueFor(Entry& entry);
  base::Result<void> TryIssue(Entry& entry);
  void ScheduleRenewal(Entry& entry);

  Settings settings_;
  const base::Clock& clock_;
  OnSvid on_svid_;
  std::unique_ptr<NodeCa> ca_;
  NodeCaStatus ca_status_;
  Stamps stamps_{};
  std::map<model::LocalId, Entry> entries_;
  base::MonotonicTime next_due_{};
  std::minstd_rand jitter_;
};

}  // namespace weir::identity
