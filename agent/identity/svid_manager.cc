#include "agent/identity/svid_manager.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "agent/identity/certificate.h"

namespace weir::identity {
namespace {

// Renewal falls into 45 to 55 % of the lifetime, so that what was issued together is not
// renewed together.
constexpr double kRenewFrom = 0.45;
constexpr double kRenewTo = 0.55;

}  // namespace

SvidManager::SvidManager(Settings settings, const base::Clock& clock, OnSvid on_svid)
    : settings_(std::move(settings)),
      clock_(clock),
      on_svid_(std::move(on_svid)),
      jitter_(std::random_device()()) {}

SvidManager::~SvidManager() = default;

std::int64_t SvidManager::WallSeconds() const {
  return std::chrono::floor<std::chrono::seconds>(clock_.WallNow()).time_since_epoch().count();
}

SvidManager::Stamps SvidManager::StampFiles() const {
  Stamps stamps;
  const std::array paths = {&settings_.files.certificate, &settings_.files.key,
                            &settings_.files.bundle};
  for (std::size_t i = 0; i < paths.size(); ++i) {
    struct stat status{};
    if (::stat(paths[i]->c_str(), &status) == 0) {
      stamps[i] = {.inode = status.st_ino,
                   .size = status.st_size,
                   .modified_ns = status.st_mtim.tv_sec * std::int64_t{1'000'000'000} +
                                  status.st_mtim.tv_nsec};
    }
  }
  return stamps;
}

base::Result<void> SvidManager::Reload() {
  stamps_ = StampFiles();  // before reading: a change meanwhile is seen by the next look
  next_due_ = clock_.Now();
  auto loaded = NodeCa::Load(settings_.files, settings_.node, settings_.trust_domain, clock_);
  if (!loaded) {
    ca_status_.last_error = loaded.error().ToString();
    return std::unexpected(loaded.error());
  }
  ca_ = std::move(*loaded);
  ca_status_ = {.serial = ca_->serial(),
                .not_before = ca_->not_before(),
                .not_after = ca_->not_after(),
                .root_count = ca_->root_ends().size(),
                .first_root_end = *std::ranges::min_element(ca_->root_ends()),
                .last_error = {}};
  for (auto& [id, entry] : entries_) {
    entry.due = clock_.Now();
    entry.backoff = std::chrono::seconds(0);
  }
  return {};
}

// An authority that was refused or has expired is tried again even when no file changed:
// it may be the clock that was wrong.
void SvidManager::LookAtFiles() {
  if (ca_ == nullptr || !ca_status_.last_error.empty() || WallSeconds() >= ca_status_.not_after ||
      StampFiles() != stamps_) {
    (void)Reload();  // the reason stands in ca_status_
  }
}

void SvidManager::SetWorkloads(
    const std::vector<std::pair<model::LocalId, model::SpiffeId>>& workloads) {
  std::map<model::LocalId, Entry> next;
  for (const auto& [id, identity] : workloads) {
    const auto known = entries_.find(id);
    if (known != entries_.end() && known->second.identity == identity) {
      next.insert(entries_.extract(known));
      continue;
    }
    Entry entry{.identity = identity, .status = {}, .due = clock_.Now()};
    entry.status.id = id;
    entry.status.spiffe_id = identity.uri();
    next.emplace(id, std::move(entry));
  }
  entries_.swap(next);
  for (const auto& [id, entry] : next) {
    if (entry.status.is_held) {
      on_svid_(id, nullptr);
    }
  }
  next_due_ = clock_.Now();
}

void SvidManager::Tick() {
  LookAtFiles();
  const std::int64_t now = WallSeconds();
  std::size_t budget = kIssuesPerTick;
  bool backlog = false;
  for (auto& [id, entry] : entries_) {
    WithdrawIfInvalid(entry, now);
    const bool due = clock_.Now() >= entry.due || WallSaysDue(entry, now);
    if (due && budget > 0) {
      --budget;
      IssueFor(entry);
    } else {
      backlog |= due;
    }
  }
  next_due_ = clock_.Now();
  if (!backlog) {
    next_due_ += kCheckInterval;
    for (const auto& [id, entry] : entries_) {
      next_due_ = std::min(next_due_, entry.due);
    }
  }
}

// Timers run on the monotonic clock; this is how a step of the wall clock shows (F23).
bool SvidManager::WallSaysDue(const Entry& entry, std::int64_t now) const {
  return entry.status.is_held && entry.backoff.count() == 0 &&
         (now >= entry.status.next_renewal || now < entry.status.not_before);
}

void SvidManager::WithdrawIfInvalid(Entry& entry, std::int64_t now) {
  if (entry.status.is_held && now >= entry.status.not_after) {
    entry.status.is_held = false;
    if (entry.backoff.count() == 0) {
      entry.due = clock_.Now();  // the clock stepped over the renewal
    }
    if (entry.status.last_error.empty()) {
      entry.status.last_error = "expired at " + FormatTime(entry.status.not_after);
    }
    on_svid_(entry.status.id, nullptr);
  }
}

void SvidManager::IssueFor(Entry& entry) {
  const auto issued = TryIssue(entry);
  if (issued) {
    entry.status.last_error.clear();
    entry.backoff = std::chrono::seconds(0);
    ScheduleRenewal(entry);
    return;
  }
  entry.status.last_error = issued.error().ToString();
  entry.backoff =
      entry.backoff.count() == 0 ? kFirstBackoff : std::min(entry.backoff * 2, kMaxBackoff);
  entry.due = clock_.Now() + entry.backoff;
}

base::Result<void> SvidManager::TryIssue(Entry& entry) {
  if (ca_ == nullptr) {
    return base::MakeError(base::ErrorCode::kUnavailable,
                           "no certificate authority: " + ca_status_.last_error);
  }
  auto issued = ca_->Issue(entry.identity, settings_.svid_lifetime);
  if (!issued) {
    return std::unexpected(issued.error());
  }
  auto workload = tls::WorkloadTls::Create(issued->material,
                                           {{settings_.trust_domain, ca_->bundle_pem()}}, clock_);
  if (!workload) {
    return std::unexpected(workload.error());
  }
  entry.status.is_held = true;
  entry.status.serial = std::move(issued->serial);
  entry.status.not_before = issued->not_before;
  entry.status.not_after = issued->not_after;
  on_svid_(entry.status.id, *workload);
  return {};
}

void SvidManager::ScheduleRenewal(Entry& entry) {
  const std::int64_t now = WallSeconds();
  const double share = std::uniform_real_distribution(kRenewFrom, kRenewTo)(jitter_);
  const std::chrono::seconds wait(
      static_cast<std::int64_t>(share * static_cast<double>(entry.status.not_after - now)));
  // A short-lived authority must not make this a busy loop: below the check interval
  // nothing is gained.
  const auto paced = std::max(wait, std::chrono::seconds(kCheckInterval));
  entry.status.next_renewal = now + paced.count();
  entry.due = clock_.Now() + paced;
}

std::vector<SvidStatus> SvidManager::Status() const {
  std::vector<SvidStatus> result;
  for (const auto& [id, entry] : entries_) {
    result.push_back(entry.status);
  }
  return result;
}

bool SvidManager::ready() const {
  return std::ranges::all_of(entries_, [](const auto& item) { return item.second.status.is_held; });
}

}  // namespace weir::identity
