#include "agent/config/policy_view.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/config/agent_config.h"
#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"

namespace weir::config {
namespace {

const DataplaneDocument* FindDocument(const DocumentSet& documents, const std::string& name) {
  const DataplaneDocument* found = nullptr;
  for (const DataplaneDocument& one : documents.dataplanes) {
    if (one.display_name() == name) {
      return &one;
    }
    if (one.envelope.name == name) {
      if (found != nullptr) {
        return nullptr;  // of several namespaces
      }
      found = &one;
    }
  }
  return found;
}

std::unexpected<base::Error> NoSuchWorkload(const DocumentSet& documents, const std::string& name) {
  std::vector<std::string> names;
  for (const DataplaneDocument& one : documents.dataplanes) {
    names.push_back(one.display_name());
  }
  return base::MakeError(
      base::ErrorCode::kNotFound,
      "no Dataplane document has the name \"" + name + "\", or several have it" +
          DidYouMean(name, std::vector<std::string_view>(names.begin(), names.end())));
}

// agent.yaml as it would be on the node of `document`, with nothing but that workload.
void LookFrom(const DataplaneDocument& document, AgentConfig& agent) {
  const std::string name = document.display_name();
  const auto known = std::ranges::find(agent.workloads, name, &WorkloadConfig::display_name);
  WorkloadConfig workload;
  if (known != agent.workloads.end()) {
    workload = *known;  // with the mode that this node gives it
  } else {
    workload.name = document.envelope.name;
    workload.ns = document.ns;
    workload.service_account = document.service_account;
    workload.match = "elsewhere";
  }
  agent.workloads = {std::move(workload)};
  agent.node_name = document.node.empty() ? agent.node_name : document.node;
}

}  // namespace

const model::Workload* PolicyView::Find(const std::string& name) const {
  const model::Workload* found = nullptr;
  for (const auto& one : snapshot->workloads()) {
    if (one->display_name() == name) {
      return one.get();
    }
    if (one->name == name) {
      if (found != nullptr) {
        return nullptr;
      }
      found = one.get();
    }
  }
  return found;
}

base::Result<PolicyView> ViewPolicy(const PolicyFiles& files, const std::string& workload) {
  PolicyView view;
  AgentConfig agent;
  if (files.trust_domain.empty()) {
    agent = LoadAgentConfig(files.agent_config, view.diagnostics);
  } else {
    agent.trust_domain = files.trust_domain;
    agent.node_name = "any";
  }
  if (!view.diagnostics.ok()) {
    return view;
  }
  const std::string& directory =
      files.documents.empty() ? agent.documents_directory : files.documents;
  const DocumentSet documents =
      ParseDocuments(ReadDocumentFiles(directory, view.diagnostics), view.diagnostics);
  if (!view.diagnostics.ok()) {
    return view;
  }
  const DataplaneDocument* document = FindDocument(documents, workload);
  if (document == nullptr) {
    return NoSuchWorkload(documents, workload);
  }
  LookFrom(*document, agent);
  const BuildResult built = SnapshotBuilder().Build(agent, documents, {document->display_name()});
  view.diagnostics.Append(built.diagnostics);
  if (built.ok()) {
    view.snapshot = built.snapshot;
    view.destination = built.snapshot->locals().front();
  }
  return view;
}

}  // namespace weir::config
