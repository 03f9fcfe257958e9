#include "agent/config/check.h"

#include <cstddef>
#include <set>
#include <string>

#include "agent/config/agent_config.h"
#include "agent/config/builder.h"
#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"

namespace weir::config {
namespace {

std::string Count(std::size_t count, const std::string& one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

// What documents are checked against when no agent.yaml is given.
AgentConfig AnyAgent() {
  AgentConfig agent;
  agent.node_name = "any";
  agent.trust_domain = "mesh.local";
  return agent;
}

}  // namespace

std::string CheckReport::ToText() const {
  std::string text = config::ToText(diagnostics.all());
  text += Count(document_count, "document") + ", " + Count(workload_count, "workload");
  text += permission_count == 0 ? ": "
                                : ", " + Count(permission_count, "permission document") + " (" +
                                      Count(rule_count, "rule") + "): ";
  text += ok() ? "ok" : Count(diagnostics.error_count(), "error");
  const std::size_t warnings = diagnostics.Warnings().size();
  text += warnings == 0 ? "\n" : ", " + Count(warnings, "warning") + "\n";
  return text;
}

CheckReport CheckDirectory(const std::string& directory, const std::string& agent_config_path) {
  CheckReport report;
  const AgentConfig agent = agent_config_path.empty()
                                ? AnyAgent()
                                : LoadAgentConfig(agent_config_path, report.diagnostics);
  const bool agent_ok = report.diagnostics.ok();
  const auto files = ReadDocumentFiles(directory, report.diagnostics);
  const DocumentSet documents = ParseDocuments(files, report.diagnostics);
  report.document_count = documents.document_count;
  report.workload_count = documents.dataplanes.size();
  report.permission_count = documents.permissions.size();
  for (const PermissionDocument& document : documents.permissions) {
    report.rule_count += document.entries.size() + document.from.size();
  }
  // A broken agent.yaml would only add findings that follow from it.
  if (agent_ok) {
    const BuildResult result = SnapshotBuilder().Build(agent, documents, std::set<std::string>());
    report.diagnostics.Append(result.diagnostics);
  }
  return report;
}

}  // namespace weir::config
