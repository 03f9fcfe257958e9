#pragma once

#include <map>
#include <string>

#include "agent/model/snapshot.h"

namespace weir::config {

// What is known of a workload when its resource is described; empty where it is not. What
// only a pod has comes from a Kubernetes document or the API server.
struct ResourceFacts {
  std::map<std::string, std::string> labels{};  // resource.opentelemetry.io/* annotations too
  std::string name{};                           // the workload's
  std::string ns{};                             // "namespace"
  std::string owner{};                          // of the pod: deployment, replicaset, ..., job
  std::string pod{};
  std::string container{};
  std::string image{};  // of the container, with its tag or digest
  std::string node{};   // the machine
  std::string unit{};   // of systemd
  bool kubernetes = false;
};

// The resource of a workload's spans, by the OpenTelemetry rules for services on Kubernetes:
// an annotation resource.opentelemetry.io/KEY gives the attribute KEY; service.name is else
// the label app.kubernetes.io/instance, app.kubernetes.io/name, the pod's owner, the pod, the
// workload; service.namespace the namespace; service.version the label
// app.kubernetes.io/version or the image's tag or digest; service.instance.id
// NAMESPACE.POD.CONTAINER, what there is of it. At most 32 other attributes come from
// annotations, in the order of their names. Pure; any thread.
model::ServiceResource MakeResource(const ResourceFacts& facts);

}  // namespace weir::config
