#include "agent/daemon/checks.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <string>

#include "agent/base/file.h"
#include "agent/daemon/timestamp.h"
#include "agent/datapath/leftovers.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

constexpr double kWarnLifetimeShare = 0.70;  // reference: by share of lifetime, not by days
constexpr double kFailLifetimeShare = 0.90;
constexpr double kWarnLossShare = 0.001;
constexpr std::int64_t kRootWarnSeconds = 30 * 86400;  // rolling a root takes its time

// Writes one result; the words of an outcome are those of the API.
class Report {
 public:
  explicit Report(v1::CheckReport& report) : report_(report) {}

  void Ok(std::string_view code, std::string_view category, std::string fact) {
    Add(code, category, "ok", std::move(fact), "");
  }
  void Warn(std::string_view code, std::string_view category, std::string fact,
            std::string remedy) {
    Add(code, category, "warn", std::move(fact), std::move(remedy));
  }
  void Fail(std::string_view code, std::string_view category, std::string fact,
            std::string remedy) {
    Add(code, category, "fail", std::move(fact), std::move(remedy));
  }
  void Unknown(std::string_view code, std::string_view category, std::string fact,
               std::string remedy) {
    Add(code, category, "unknown", std::move(fact), std::move(remedy));
  }
  void NotApplicable(std::string_view code, std::string_view category, std::string fact) {
    Add(code, category, "n/a", std::move(fact), "");
  }

 private:
  void Add(std::string_view code, std::string_view category, std::string_view outcome,
           std::string fact, std::string remedy) {
    auto& result = *report_.add_results();
    result.set_code(std::string(code));
    result.set_category(std::string(category));
    result.set_outcome(std::string(outcome));
    result.set_fact(std::move(fact));
    result.set_remedy(std::move(remedy));
  }
  v1::CheckReport& report_;
};

std::string NameOf(const ControlFacts& facts, model::LocalId id) {
  const model::LocalWorkload* local = facts.snapshot ? facts.snapshot->FindLocal(id) : nullptr;
  return local != nullptr ? local->workload->display_name()
                          : fmt::format("workload {}", static_cast<std::uint32_t>(id));
}

void CheckDaemon(const CheckInput& input, Report& report) {
  const ControlFacts& facts = *input.facts;
  const auto now = base::SystemClock().WallNow();
  report.Ok("WK201", "agent",
            fmt::format("agent {} is {}, up {} s", WEIR_VERSION, facts.state,
                        std::chrono::floor<std::chrono::seconds>(now - facts.started_at).count()));
  if (facts.last_problem.empty()) {
    report.Ok("WK202", "agent", "no warning or error was logged since the start");
  } else {
    report.Warn(
        "WK202", "agent",
        fmt::format("{} s ago: {}",
                    std::chrono::floor<std::chrono::seconds>(now - facts.last_problem_at).count(),
                    facts.last_problem),
        "journalctl -u weir-agent");
  }
}

void CheckHooks(const ControlFacts& facts, Report& report) {
  std::size_t lost = 0;
  for (const auto& hook : facts.hooks) {
    if (!hook.attached) {
      ++lost;
      report.Fail(
          "WK203", "agent",
          fmt::format("hook {} (link {}) is no longer attached", hook.name, hook.link_id),
          "systemctl restart weir-agent, and find out which tool replaced it: bpftool link");
    }
  }
  for (const auto& enrolment : facts.enrolments) {
    if (!enrolment.lookup_link_alive) {
      ++lost;
      report.Fail("WK203", "agent",
                  fmt::format("the inbound hook of {} (link {}) is no longer attached",
                              enrolment.name, enrolment.lookup_link_id),
                  "systemctl restart weir-agent");
    }
  }
  if (lost == 0) {
    report.Ok("WK203", "agent",
              fmt::format("{} shared hooks and {} inbound hooks attached", facts.hooks.size(),
                          facts.enrolments.size()));
  }
}

// Programs of other proxies that intercept the same traffic, by the names they are known for.
void CheckOtherTools(Report& report) {
  static constexpr std::array<std::string_view, 5> kNames = {"ztunnel", "cilium-agent", "envoy",
                                                             "linkerd2-proxy", "kuma-dp"};
  std::string found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) {
      continue;
    }
    const auto comm = base::ReadFile(entry.path().string() + "/comm", 64);
    if (!comm) {
      continue;  // it has ended
    }
    const std::string_view command(comm->data(), comm->find('\n'));
    if (std::ranges::find(kNames, command) != kNames.end()) {
      found += fmt::format("{}{} (pid {})", found.empty() ? "" : ", ", command, name);
    }
  }
  if (found.empty()) {
    report.Ok("WK204", "agent", "no other mesh proxy runs on this node");
  } else {
    report.Warn("WK204", "agent", "also here: " + found,
                "make sure that no workload is enrolled in both; un-enrol it in one of them");
  }
}

void CheckLosses(const CheckInput& input, Report& report) {
  const auto& records = input.pipeline.records;
  const auto lost = records.dropped + input.exports.front().dropped();
  const double share = records.generated == 0
                           ? 0
                           : static_cast<double>(lost) / static_cast<double>(records.generated);
  const std::string fact = fmt::format("{} of {} records and spans lost ({:.2f} %)", lost,
                                       records.generated, share * 100);
  if (share > kWarnLossShare) {
    report.Warn("WK207", "agent", fact, "raise telemetry.queueBytes in agent.yaml, or sample");
  } else {
    report.Ok("WK207", "agent", fact);
  }
}

void CheckState(const ControlFacts& facts, Report& report) {
  struct stat info{};
  if (::stat(facts.agent.admin.socket_path.c_str(), &info) != 0) {
    report.Fail("WK208", "agent", facts.agent.admin.socket_path + " is gone",
                "systemctl restart weir-agent");
    return;
  }
  const unsigned mode = info.st_mode & 0777U;
  if ((mode & 07U) != 0) {
    report.Fail("WK208", "agent",
                fmt::format("{} has mode {:o}: others than its group may read flows",
                            facts.agent.admin.socket_path, mode),
                "chmod 0660 " + facts.agent.admin.socket_path);
    return;
  }
  report.Ok(
      "WK208", "agent",
      fmt::format("{} mode {:o}, group {}", facts.agent.admin.socket_path, mode, info.st_gid));
}

void CheckEnrolment(const ControlFacts& facts, Report& report) {
  std::size_t bad = 0;
  for (const auto& [name, why] : facts.problems) {
    ++bad;
    report.Fail("WK301", "enrolment",
                fmt::format("{} is configured but not enrolled: {}", name, why),
                "correct it; the agent tries again every second");
  }
  const std::size_t away =
      facts.agent.workloads.size() - std::min(facts.agent.workloads.size(), facts.present.size());
  if (bad == 0) {
    report.Ok("WK301", "enrolment",
              fmt::format("{} of {} configured workloads are here and enrolled, {} are not on this "
                          "node now",
                          facts.enrolments.size(), facts.agent.workloads.size(), away));
  }
  bool old = false;
  for (const auto& entry : facts.preexisting) {
    if (entry.count > 0) {
      old = true;
      report.Warn(
          "WK302", "enrolment",
          fmt::format("{} connections of {} pre-date its enrolment, for example {}", entry.count,
                      entry.name, entry.examples.empty() ? "-" : entry.examples.front()),
          "restart the workload, or wait until they end");
    }
  }
  if (!old) {
    report.Ok("WK302", "enrolment", "no connection is older than its workload's enrolment");
  }
}

void CheckProbes(const ControlFacts& facts, Report& report) {
  std::size_t good = 0;
  for (const auto& enrolment : facts.enrolments) {
    if (!facts.probed_at.contains(enrolment.id)) {
      continue;
    }
    if (enrolment.last_probe.ok) {
      ++good;
    } else {
      report.Fail("WK303", "enrolment",
                  fmt::format("the self-probe of {} was not intercepted: {}", enrolment.name,
                              enrolment.last_probe.detail),
                  "weir status; bpftool cgroup tree");
    }
  }
  if (good == facts.probed_at.size()) {
    report.Ok("WK303", "enrolment",
              fmt::format("{} workloads answered a probe through the real hooks", good));
  }
}

void CheckWaysAround(const ControlFacts& facts, Report& report) {
  std::string ways;
  for (const auto& counter : facts.kernel_counters) {
    if (counter.reason.find("device") != std::string::npos && counter.value > 0) {
      ways += fmt::format(" {} {} times;", counter.reason, counter.value);
    }
  }
  if (ways.empty()) {
    report.Ok("WK304", "enrolment", "no connection of an enrolled workload went around the hooks");
  } else {
    report.Warn("WK304", "enrolment", "left alone by rule:" + ways,
                "sockets bound to a device are not intercepted; remove SO_BINDTODEVICE");
  }
}

std::int64_t WallSeconds() {
  return std::chrono::floor<std::chrono::seconds>(base::SystemClock().WallNow().time_since_epoch())
      .count();
}

// 0 to 1 and beyond.
double LifeUsed(std::int64_t now, std::int64_t not_before, std::int64_t not_after) {
  const auto life = static_cast<double>(not_after - not_before);
  return life > 0 ? static_cast<double>(now - not_before) / life : kFailLifetimeShare + 1;
}

std::string Days(std::int64_t seconds) {
  return fmt::format("{:.1f} days", static_cast<double>(seconds) / 86400);
}

void CheckCertificates(const ControlFacts& facts, Report& report) {
  const auto now = WallSeconds();
  std::size_t issue_errors = 0;
  std::size_t old = 0;
  for (const auto& svid : facts.svids) {
    if (!svid.last_error.empty()) {
      ++issue_errors;
      report.Fail("WK401", "identity",
                  fmt::format("{}: {}", NameOf(facts, svid.id), svid.last_error),
                  "weir ca node " + facts.agent.node_name +
                      ", copy the files to the node, systemctl reload weir-agent");
    }
    const double used = LifeUsed(now, svid.not_before, svid.not_after);
    if (used > kWarnLifetimeShare) {
      ++old;
      const std::string fact = fmt::format(
          "{}: {:.0f} % of the certificate's life is used, it "
          "ends in {} s",
          NameOf(facts, svid.id), used * 100, svid.not_after - now);
      const std::string remedy = "weir certs; the agent renews at half of the life, see WK401";
      if (used > kFailLifetimeShare) {
        report.Fail("WK402", "identity", fact, remedy);
      } else {
        report.Warn("WK402", "identity", fact, remedy);
      }
    }
  }
  if (issue_errors == 0) {
    report.Ok("WK401", "identity", fmt::format("{} certificates issued", facts.svids.size()));
  }
  if (old == 0) {
    report.Ok(
        "WK402", "identity",
        fmt::format("{} certificates, each younger than 70 % of its life", facts.svids.size()));
  }
  if (issue_errors == 0) {
    report.Ok("WK405", "identity",
              fmt::format("{} chains verified by the X509-SVID rules when they were issued",
                          facts.svids.size()));
  }
}

// The intermediate and the roots, which nobody renews but the operator.
void CheckAuthority(const ControlFacts& facts, Report& report) {
  const auto now = WallSeconds();
  const auto& ca = facts.ca;
  const std::string renew = "weir ca node " + facts.agent.node_name +
                            " --force, copy the files to the node; they are taken at once";
  if (!ca.last_error.empty()) {
    report.Fail("WK401", "identity", ca.last_error, renew);
  }
  const double used = LifeUsed(now, ca.not_before, ca.not_after);
  const std::string fact = fmt::format(
      "{:.0f} % of the life of this node's intermediate is used, "
      "it ends in {}",
      used * 100, Days(ca.not_after - now));
  if (used > kFailLifetimeShare) {
    report.Fail("WK402", "identity", fact, renew);
  } else if (used > kWarnLifetimeShare) {
    report.Warn("WK402", "identity", fact, renew);
  } else {
    report.Ok("WK402", "identity", fact);
  }
  const std::int64_t left = ca.first_root_end - now;
  const std::string roots = fmt::format("{} roots in {}, the first ends in {}", ca.root_count,
                                        facts.agent.ca.root_bundle, Days(left));
  if (left < kRootWarnSeconds) {
    report.Warn("WK404", "identity", roots,
                "make a new root, put both into the bundle of every node, then renew the "
                "intermediates");
  } else {
    report.Ok("WK404", "identity", roots);
  }
}

// The issuer is a file, so there is no clock of its to compare with: whether the kernel says
// that somebody keeps this one right, and whether the certificates are of the past.
void CheckClock(const ControlFacts& facts, Report& report) {
  const auto now = WallSeconds();
  if (facts.ca.not_before > now) {
    report.Fail("WK403", "identity",
                fmt::format("this node's clock is {} s before the start of its own intermediate",
                            facts.ca.not_before - now),
                "timedatectl set-ntp true");
    return;
  }
  timex state{};
  const int answer = ::adjtimex(&state);
  const std::string fact =
      fmt::format("estimated error {:.3f} s", static_cast<double>(state.maxerror) / 1e6);
  if (answer < 0) {
    report.Unknown("WK403", "identity",
                   "the kernel does not tell this process whether its clock is kept right",
                   "timedatectl status");
  } else if (answer == TIME_ERROR) {
    report.Warn("WK403", "identity", "no time service keeps this node's clock right: " + fact,
                "timedatectl set-ntp true");
  } else {
    report.Ok("WK403", "identity", "the clock is kept right by a time service, " + fact);
  }
}

void CheckDocuments(const ControlFacts& facts, Report& report) {
  const auto& rejection = facts.source.last_rejection;
  if (!rejection) {
    report.Ok("WK501", "documents",
              fmt::format("revision {} of {} is in force, {} warnings", facts.source.revision,
                          facts.agent.documents_directory, facts.source.warnings.size()));
    return;
  }
  report.Fail(
      "WK501", "documents",
      fmt::format("the newest documents were refused, revision {} stays: {}", facts.source.revision,
                  rejection->errors.empty() ? "" : rejection->errors.front().ToString()),
      "weir config check " + facts.agent.documents_directory);
}

void CheckExporter(const telemetry::ExporterStatus& exporter, Report& report) {
  const std::string who =
      fmt::format("{} ({} by {}) {}", exporter.name, telemetry::ToString(exporter.signal),
                  exporter.kind, exporter.url);
  if (exporter.requests + exporter.failures == 0) {
    report.Ok("WK701", "telemetry", who + ": nothing was sent yet");
  } else if (exporter.is_accepting) {
    report.Ok("WK701", "telemetry",
              fmt::format("{}: {} exported, {} dropped, {} queued", who, exporter.exported,
                          exporter.dropped_total(), exporter.queued));
  } else {
    report.Fail("WK701", "telemetry",
                fmt::format("{}: {}; {} queued, {} dropped", who, exporter.last_error,
                            exporter.queued, exporter.dropped_total()),
                "check the collector's address in MeshOpenTelemetryBackend and that it listens");
  }
}

void CheckExporters(const CheckInput& input, Report& report) {
  if (input.exports.front().exporters.empty()) {
    report.NotApplicable("WK701", "telemetry",
                         "no collector is configured: spans stay in memory (weir traces)");
  }
  for (const telemetry::ExportStatus& signal : input.exports) {
    for (const telemetry::ExporterStatus& exporter : signal.exporters) {
      CheckExporter(exporter, report);
    }
  }
}

v1::CheckReport EmptyReport(const ControlFacts& facts) {
  v1::CheckReport report;
  report.set_api_version("weir/v1");
  report.set_version(WEIR_VERSION);
  report.set_node(facts.agent.node_name);
  return report;
}

const config::WorkloadConfig* FindSubject(const ControlFacts& facts, std::string_view subject) {
  constexpr std::string_view kUnit = "unit:";
  const auto is_meant = [&](const config::WorkloadConfig& workload) {
    if (!subject.starts_with(kUnit)) {
      return workload.display_name() == subject || workload.name == subject;
    }
    const std::string_view unit = subject.substr(kUnit.size());
    return workload.match_kind == config::MatchKind::kUnit &&
           (workload.match == unit || workload.match == std::string(unit) + ".service");
  };
  const auto found = std::ranges::find_if(facts.agent.workloads, is_meant);
  return found == facts.agent.workloads.end() ? nullptr : &*found;
}

// What of `all` is about one workload.
ControlFacts FactsOf(const ControlFacts& all, const config::WorkloadConfig& workload) {
  const std::string name = workload.display_name();
  ControlFacts facts;
  facts.agent = all.agent;
  facts.agent.workloads = {workload};
  facts.snapshot = all.snapshot;
  facts.hooks = all.hooks;
  std::ranges::copy_if(all.present, std::back_inserter(facts.present),
                       [&](const auto& each) { return each.workload == name; });
  std::ranges::copy_if(all.enrolments, std::back_inserter(facts.enrolments),
                       [&](const auto& each) { return each.name == name; });
  std::ranges::copy_if(all.preexisting, std::back_inserter(facts.preexisting),
                       [&](const auto& each) { return each.name == name; });
  if (const auto problem = all.problems.find(name); problem != all.problems.end()) {
    facts.problems.insert(*problem);
  }
  for (const auto& enrolment : facts.enrolments) {
    std::ranges::copy_if(all.svids, std::back_inserter(facts.svids),
                         [&](const auto& each) { return each.id == enrolment.id; });
    if (const auto probed = all.probed_at.find(enrolment.id); probed != all.probed_at.end()) {
      facts.probed_at.insert(*probed);
    }
  }
  return facts;
}

}  // namespace

void FillCheck(const datapath::CheckResult& from, v1::CheckResult& to) {
  to.set_code(from.code);
  to.set_category(from.category);
  to.set_fact(from.fact);
  to.set_remedy(from.remedy);
  switch (from.outcome) {
    case datapath::CheckOutcome::kOk:
      to.set_outcome("ok");
      break;
    case datapath::CheckOutcome::kWarn:
      to.set_outcome("warn");
      break;
    case datapath::CheckOutcome::kFail:
      to.set_outcome("fail");
      break;
    case datapath::CheckOutcome::kNotApplicable:
      to.set_outcome("n/a");
      break;
    case datapath::CheckOutcome::kUnknown:
      to.set_outcome("unknown");
      break;
  }
}

v1::CheckReport RunChecks(const CheckInput& input) {
  const auto start = base::SystemClock().Now();
  const ControlFacts& facts = *input.facts;
  v1::CheckReport message = EmptyReport(facts);
  for (const auto& result :
       datapath::Preflight(input.datapath, static_cast<unsigned>(facts.agent.workloads.size()))) {
    FillCheck(result, *message.add_results());
  }
  Report report(message);
  CheckDaemon(input, report);
  CheckHooks(facts, report);
  CheckOtherTools(report);
  FillCheck(datapath::CheckLeftovers(input.datapath), *message.add_results());
  report.NotApplicable("WK206", "agent", "no CNI plug-in is installed outside Kubernetes");
  CheckLosses(input, report);
  CheckState(facts, report);
  CheckEnrolment(facts, report);
  CheckProbes(facts, report);
  CheckWaysAround(facts, report);
  CheckCertificates(facts, report);
  CheckAuthority(facts, report);
  CheckClock(facts, report);
  CheckDocuments(facts, report);
  CheckExporters(input, report);
  message.set_duration_seconds(ToSeconds(base::SystemClock().Now() - start));
  return message;
}

std::optional<v1::CheckReport> RunChecksOf(const CheckInput& input, std::string_view subject) {
  const auto start = base::SystemClock().Now();
  const config::WorkloadConfig* const workload = FindSubject(*input.facts, subject);
  if (workload == nullptr) {
    return std::nullopt;
  }
  const ControlFacts facts = FactsOf(*input.facts, *workload);
  const std::string name = workload->display_name();
  v1::CheckReport message = EmptyReport(facts);
  Report report(message);
  if (facts.enrolments.empty() && facts.problems.empty()) {
    report.Warn("WK301", "enrolment", name + " is configured and not on this node now",
                fmt::format("start it, or look at its match in agent.yaml: {} {}",
                            config::ToString(workload->match_kind), workload->match));
  } else {
    CheckHooks(facts, report);
    CheckEnrolment(facts, report);
    CheckProbes(facts, report);
    if (facts.svids.empty()) {
      report.Fail("WK401", "identity", name + " has no certificate",
                  "weir certs; journalctl -u weir-agent");
    } else {
      CheckCertificates(facts, report);
    }
  }
  message.set_duration_seconds(ToSeconds(base::SystemClock().Now() - start));
  return message;
}

}  // namespace weir::daemon
