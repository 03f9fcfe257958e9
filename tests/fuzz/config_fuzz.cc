#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "agent/config/agent_config.h"
#include "agent/config/builder.h"
#include "agent/config/documents.h"

// Any bytes as documents and as agent.yaml: no crash, and a snapshot only without errors.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace config = weir::config;
  const std::string text(reinterpret_cast<const char*>(data), size);
  config::Diagnostics diagnostics;
  const config::DocumentSet documents =
      config::ParseDocuments({{.name = "f.yaml", .content = text}}, diagnostics);
  config::AgentConfig agent;
  agent.node_name = "node-a";
  agent.trust_domain = "mesh.local";
  std::set<std::string> present;
  for (const config::DataplaneDocument& document : documents.dataplanes) {
    config::WorkloadConfig workload;
    workload.name = document.envelope.name;
    workload.ns = document.ns;
    workload.match = "x";
    present.insert(workload.display_name());
    agent.workloads.push_back(workload);
  }
  const config::BuildResult result = config::SnapshotBuilder().Build(agent, documents, present);
  if (result.ok() != result.diagnostics.ok()) {
    std::abort();
  }
  config::Diagnostics agent_diagnostics;
  const config::AgentConfig parsed =
      config::ParseAgentConfig(text, "agent.yaml", agent_diagnostics);
  if (agent_diagnostics.ok() && !config::Diff(parsed, parsed).empty()) {
    std::abort();
  }
  return 0;
}
