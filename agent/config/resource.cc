#include "agent/config/resource.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace weir::config {
namespace {

constexpr std::string_view kAnnotation = "resource.opentelemetry.io/";
constexpr std::size_t kMaxAnnotated = 32;

std::string LabelOf(const ResourceFacts& facts, std::string_view key) {
  const auto found = facts.labels.find(std::string(key));
  return found == facts.labels.end() ? std::string() : found->second;
}

std::string FirstOf(std::initializer_list<std::string> candidates) {
  for (const std::string& candidate : candidates) {
    if (!candidate.empty()) {
      return candidate;
    }
  }
  return {};
}

// "1.2" of "registry:5000/shop/cart:1.2", the digest of "cart:1.2@sha256:...".
std::string VersionOfImage(const std::string& image) {
  if (const std::size_t at = image.find('@'); at != std::string::npos) {
    return image.substr(at + 1);
  }
  const std::size_t slash = image.rfind('/');
  const std::size_t colon = image.find(':', slash == std::string::npos ? 0 : slash);
  return colon == std::string::npos ? std::string() : image.substr(colon + 1);
}

std::string InstanceId(const ResourceFacts& facts) {
  std::string id = facts.ns;
  for (const std::string& part : {facts.pod.empty() ? facts.name : facts.pod, facts.container}) {
    if (!part.empty()) {
      id += id.empty() ? part : "." + part;
    }
  }
  return id;
}

// The attributes that the annotations name, but for the four of the service.
void AddAnnotated(const ResourceFacts& facts, model::ServiceResource& resource) {
  constexpr std::array<std::string_view, 4> kServiceKeys = {
      "service.name", "service.namespace", "service.version", "service.instance.id"};
  std::size_t count = 0;
  for (const auto& [label, value] : facts.labels) {
    const std::string_view key = std::string_view(label).substr(
        label.starts_with(kAnnotation) ? kAnnotation.size() : label.size());
    if (key.empty() || value.empty() ||
        std::ranges::find(kServiceKeys, key) != kServiceKeys.end()) {
      continue;
    }
    const auto same = std::ranges::find_if(resource.attributes,
                                           [&](const auto& one) { return one.first == key; });
    if (same != resource.attributes.end()) {
      same->second = value;
    } else if (count++ < kMaxAnnotated) {
      resource.attributes.emplace_back(key, value);
    }
  }
}

}  // namespace

model::ServiceResource MakeResource(const ResourceFacts& facts) {
  const auto annotated = [&](std::string_view key) {
    return LabelOf(facts, std::string(kAnnotation) + std::string(key));
  };
  model::ServiceResource resource;
  resource.service_name =
      FirstOf({annotated("service.name"), LabelOf(facts, "app.kubernetes.io/instance"),
               LabelOf(facts, "app.kubernetes.io/name"), facts.owner, facts.pod, facts.name});
  resource.service_namespace = FirstOf({annotated("service.namespace"), facts.ns});
  resource.service_version =
      FirstOf({annotated("service.version"), LabelOf(facts, "app.kubernetes.io/version"),
               VersionOfImage(facts.image)});
  resource.service_instance_id = FirstOf({annotated("service.instance.id"), InstanceId(facts)});
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) {
      resource.attributes.emplace_back(key, value);
    }
  };
  add("host.name", facts.node);
  add("systemd.unit", facts.unit);
  if (facts.kubernetes) {
    add("k8s.namespace.name", facts.ns);
    add("k8s.pod.name", facts.pod);
    add("k8s.container.name", facts.container);
    add("k8s.node.name", facts.node);
  }
  AddAnnotated(facts, resource);
  return resource;
}

}  // namespace weir::config
