#include "agent/daemon/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "agent/daemon/timestamp.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

void FillFeatures(const ControlFacts& facts, v1::Status& status) {
  for (const auto& feature : facts.features) {
    auto& to = *status.add_features();
    to.set_name(feature.name);
    to.set_needed_by(feature.needed_by);
    to.set_available(feature.available);
    to.set_fallback(feature.fallback);
    to.set_detail(feature.detail);
  }
}

void FillCertificate(const ControlFacts& facts, model::LocalId id, v1::WorkloadStatus& to) {
  const auto svid = std::ranges::find(facts.svids, id, &identity::SvidStatus::id);
  if (svid == facts.svids.end()) {
    return;
  }
  auto& certificate = *to.mutable_certificate();
  certificate.set_identity(svid->spiffe_id);
  certificate.set_serial(svid->serial);
  certificate.set_last_error(svid->last_error);
  if (svid->not_after > 0) {
    *certificate.mutable_not_before() = ToTimestamp(svid->not_before);
    *certificate.mutable_not_after() = ToTimestamp(svid->not_after);
    *certificate.mutable_next_renewal() = ToTimestamp(svid->next_renewal);
  }
}

void FillProbe(const ControlFacts& facts, const datapath::EnrolmentStatus& enrolment,
               v1::WorkloadStatus& to) {
  auto& probe = *to.mutable_probe();
  const auto when = facts.probed_at.find(enrolment.id);
  if (when == facts.probed_at.end()) {
    probe.set_outcome("unknown");
    probe.set_detail("not probed yet");
    return;
  }
  probe.set_outcome(enrolment.last_probe.ok ? "ok" : "fail");
  probe.set_detail(enrolment.last_probe.detail);
  *probe.mutable_time() = ToTimestamp(when->second);
}

void FillWorkload(const ControlFacts& facts, const model::LocalWorkload& local,
                  v1::WorkloadStatus& to) {
  const model::Workload& workload = *local.workload;
  to.set_name(workload.name);
  to.set_namespace_(workload.ns);
  to.set_local_id(static_cast<std::uint32_t>(local.id));
  to.set_identity(workload.identity.uri());
  to.set_mode(local.tls_mode == model::TlsMode::kStrict ? "strict" : "permissive");
  to.set_on_agent_down(local.on_agent_down == model::OnAgentDown::kClosed ? "closed" : "open");
  for (const auto& address : workload.addresses) {
    to.add_addresses(address.ToString());
  }
  for (const auto& configured : facts.agent.workloads) {
    if (configured.display_name() == workload.display_name()) {
      to.set_kind(configured.match_kind == config::MatchKind::kNetns ? "netns" : "cgroup");
      to.set_match(std::string(config::ToString(configured.match_kind)) + " " + configured.match);
    }
  }
  const auto problem = facts.problems.find(workload.display_name());
  if (problem != facts.problems.end()) {
    to.set_problem(problem->second);
  }
  FillCertificate(facts, local.id, to);
  const auto enrolment =
      std::ranges::find(facts.enrolments, local.id, &datapath::EnrolmentStatus::id);
  if (enrolment != facts.enrolments.end()) {
    to.set_netns_cookie(enrolment->netns_cookie);
    to.set_cgroup_id(enrolment->cgroup_id);
    to.set_listeners(enrolment->listeners_expected);
    to.set_listeners_alive(enrolment->listeners_alive);
    to.set_hooks_effective(enrolment->lookup_link_alive &&
                           std::ranges::all_of(facts.hooks, &datapath::HookStatus::attached));
    FillProbe(facts, *enrolment, to);
  }
}

void FillQueues(const StatusInput& input, v1::Status& status) {
  auto& flows = *status.add_queues();
  flows.set_name("flows");
  flows.set_generated(input.pipeline.records.generated);
  flows.set_exported(input.pipeline.records.delivered);
  flows.set_dropped(input.pipeline.records.dropped);
  flows.set_queued(input.pipeline.records.queued);
  flows.set_queued_bytes(input.pipeline.queued_bytes);
  flows.set_limit_bytes(input.pipeline.queue_limit_bytes);
  auto& spans = *status.add_queues();
  spans.set_name("spans");
  spans.set_generated(input.spans.generated);
  spans.set_exported(input.spans.exported + input.spans.kept);
  spans.set_dropped(input.spans.dropped);
  spans.set_queued(input.spans.queued);
  spans.set_queued_bytes(input.exports.front().queue_bytes());
  spans.set_limit_bytes(input.exports.front().queue_limit_bytes);
  if (input.logs.generated != 0) {
    auto& logs = *status.add_queues();
    logs.set_name("logs");
    logs.set_generated(input.logs.generated);
    logs.set_exported(input.logs.exported);
    logs.set_dropped(input.logs.dropped);
    logs.set_queued(input.logs.queued);
    logs.set_queued_bytes(input.logs.queued_bytes);
    logs.set_limit_bytes(input.logs.limit_bytes);
  }
}

void FillConfig(const ControlFacts& facts, v1::Status& status) {
  auto& config = *status.mutable_config();
  config.set_revision(facts.source.revision);
  *config.mutable_loaded_at() = ToTimestamp(facts.source.loaded_at);
  config.set_rejections(facts.source.rejection_count);
  for (const auto& warning : facts.source.warnings) {
    config.add_warnings(warning.ToString());
  }
  if (facts.source.last_rejection) {
    auto& rejection = *config.mutable_last_rejection();
    *rejection.mutable_time() = ToTimestamp(facts.source.last_rejection->when);
    for (const auto& error : facts.source.last_rejection->errors) {
      rejection.add_errors(error.ToString());
    }
  }
}

void FillExporter(const telemetry::ExporterStatus& from, v1::ExporterStatus& exporter) {
  exporter.set_name(from.name);
  exporter.set_kind(from.kind);
  exporter.set_signal(std::string(telemetry::ToString(from.signal)));
  exporter.set_endpoint(from.url);
  exporter.set_state(from.requests + from.failures == 0 ? "idle"
                     : from.is_accepting                ? "ok"
                                                        : "failing");
  if (from.last_success) {
    *exporter.mutable_last_success() = ToTimestamp(*from.last_success);
  }
  if (from.last_failure) {
    *exporter.mutable_last_failure() = ToTimestamp(*from.last_failure);
  }
  exporter.set_last_error(from.last_error);
  exporter.set_offered(from.offered);
  exporter.set_exported(from.exported);
  exporter.set_queued(from.queued);
  exporter.set_queued_bytes(from.queue_bytes);
  exporter.set_limit_bytes(from.queue_limit_bytes);
  for (std::size_t i = 0; i < from.dropped.size(); ++i) {
    if (from.dropped[i] != 0) {
      auto& drop = *exporter.add_dropped();
      drop.set_name(exporter.signal());
      drop.set_reason(std::string(telemetry::ToString(static_cast<telemetry::ExportDrop>(i))));
      drop.set_value(from.dropped[i]);
    }
  }
}

void FillExporters(const StatusInput& input, v1::Status& status) {
  for (const telemetry::ExportStatus& signal : input.exports) {
    for (const telemetry::ExporterStatus& exporter : signal.exporters) {
      FillExporter(exporter, *status.add_exporters());
    }
  }
}

// What ended other than well, by reason, from the workers' and the kernel's counters.
void FillDrops(const StatusInput& input, v1::Status& status) {
  const auto add = [&](const std::string& name, const std::string& reason, double value) {
    if (value > 0) {
      auto& drop = *status.add_drops();
      drop.set_name(name);
      drop.set_reason(reason);
      drop.set_value(static_cast<std::uint64_t>(value));
    }
  };
  for (const auto& family : input.worker_metrics) {
    for (const auto& sample : family.samples) {
      const auto reason =
          std::ranges::find(sample.labels, "reason", [](const auto& label) { return label.first; });
      if (reason != sample.labels.end() && reason->second != "none") {
        add(family.name, reason->second, sample.value);
      }
    }
  }
  for (const auto& counter : input.facts->kernel_counters) {
    if (counter.is_loss) {
      add("kernel_" + counter.hook, counter.reason, static_cast<double>(counter.value));
    }
  }
}

}  // namespace

bool IsReady(const ControlFacts& facts, std::vector<std::string>& reasons) {
  if (facts.snapshot == nullptr) {
    reasons.emplace_back("no configuration was taken yet");
    return false;
  }
  if (facts.state != "ready") {
    reasons.push_back("the agent is " + facts.state);
  }
  for (const auto& [name, why] : facts.problems) {
    reasons.push_back(name + ": " + why);
  }
  for (const auto& svid : facts.svids) {
    if (!svid.is_held) {
      reasons.push_back(svid.spiffe_id + (svid.not_after == 0
                                              ? " has no certificate"
                                              : " has no valid certificate any more"));
    }
  }
  for (const auto& hook : facts.hooks) {
    if (!hook.attached) {
      reasons.push_back("hook " + hook.name + " is not attached");
    }
  }
  for (const auto& enrolment : facts.enrolments) {
    if (!enrolment.lookup_link_alive || enrolment.listeners_alive < enrolment.listeners_expected) {
      reasons.push_back(enrolment.name + ": its inbound hook or listeners are gone");
    }
    if (facts.probed_at.contains(enrolment.id) && !enrolment.last_probe.ok) {
      reasons.push_back(enrolment.name + ": the self-probe failed: " + enrolment.last_probe.detail);
    }
  }
  return reasons.empty();
}

v1::Status MakeStatus(const StatusInput& input) {
  const ControlFacts& facts = *input.facts;
  v1::Status status;
  status.set_api_version("weir/v1");
  status.set_version(WEIR_VERSION);
  status.set_node(facts.agent.node_name);
  status.set_trust_domain(facts.agent.trust_domain);
  *status.mutable_started_at() = ToTimestamp(facts.started_at);
  std::vector<std::string> reasons;
  status.set_ready(IsReady(facts, reasons));
  for (auto& reason : reasons) {
    status.add_not_ready_reasons(std::move(reason));
  }
  status.set_state(facts.state);
  status.set_workers(input.workers);
  status.set_log_level(input.log_level);
  FillFeatures(facts, status);
  if (facts.snapshot) {
    for (const auto& local : facts.snapshot->locals()) {
      auto& workload = *status.add_workloads();
      FillWorkload(facts, *local, workload);
      if (const auto figures = input.figures.find(local->id); figures != input.figures.end()) {
        auto& counters = *workload.mutable_counters();
        counters.set_outbound(figures->second.outbound);
        counters.set_inbound(figures->second.inbound);
        counters.set_refused(figures->second.refused);
      }
    }
  }
  FillQueues(input, status);
  FillConfig(facts, status);
  FillDrops(input, status);
  FillExporters(input, status);
  return status;
}

}  // namespace weir::daemon
