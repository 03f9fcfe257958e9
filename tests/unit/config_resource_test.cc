#include <gtest/gtest.h>

#include <map>
#include <string>

#include "agent/config/resource.h"

namespace weir::config {
namespace {

using Attributes = std::map<std::string, std::string>;

Attributes ToMap(const model::ServiceResource& resource) {
  Attributes map;
  for (const auto& [key, value] : resource.attributes) {
    EXPECT_FALSE(map.contains(key)) << key << " is there twice";
    map[key] = value;
  }
  return map;
}

TEST(ResourceTest, NamesTheServiceByTheFirstThatIsKnown) {
  ResourceFacts facts{.name = "workload"};
  EXPECT_EQ(MakeResource(facts).service_name, "workload");
  facts.pod = "cart-7f9-x2";
  EXPECT_EQ(MakeResource(facts).service_name, "cart-7f9-x2");
  facts.owner = "cart";
  EXPECT_EQ(MakeResource(facts).service_name, "cart");
  facts.labels["app.kubernetes.io/name"] = "cart-app";
  EXPECT_EQ(MakeResource(facts).service_name, "cart-app");
  facts.labels["app.kubernetes.io/instance"] = "cart-eu";
  EXPECT_EQ(MakeResource(facts).service_name, "cart-eu");
  facts.labels["resource.opentelemetry.io/service.name"] = "shop-cart";
  EXPECT_EQ(MakeResource(facts).service_name, "shop-cart");
}

TEST(ResourceTest, TakesTheVersionFromAnnotationLabelOrImage) {
  ResourceFacts facts{.name = "w"};
  EXPECT_EQ(MakeResource(facts).service_version, "");
  facts.image = "registry.test:5000/shop/cart";
  EXPECT_EQ(MakeResource(facts).service_version, "");
  facts.image = "registry.test:5000/shop/cart:1.2";
  EXPECT_EQ(MakeResource(facts).service_version, "1.2");
  facts.image = "cart:1.2@sha256:abc";
  EXPECT_EQ(MakeResource(facts).service_version, "sha256:abc");
  facts.labels["app.kubernetes.io/version"] = "2.0";
  EXPECT_EQ(MakeResource(facts).service_version, "2.0");
  facts.labels["resource.opentelemetry.io/service.version"] = "3.0";
  EXPECT_EQ(MakeResource(facts).service_version, "3.0");
}

TEST(ResourceTest, NamesTheInstanceByNamespacePodAndContainer) {
  ResourceFacts facts{.name = "w"};
  EXPECT_EQ(MakeResource(facts).service_instance_id, "w");
  facts.ns = "shop";
  EXPECT_EQ(MakeResource(facts).service_instance_id, "shop.w");
  EXPECT_EQ(MakeResource(facts).service_namespace, "shop");
  facts.pod = "cart-1";
  facts.container = "app";
  EXPECT_EQ(MakeResource(facts).service_instance_id, "shop.cart-1.app");
  facts.labels["resource.opentelemetry.io/service.instance.id"] = "mine";
  facts.labels["resource.opentelemetry.io/service.namespace"] = "store";
  EXPECT_EQ(MakeResource(facts).service_instance_id, "mine");
  EXPECT_EQ(MakeResource(facts).service_namespace, "store");
}

TEST(ResourceTest, SaysWhereTheWorkloadRuns) {
  EXPECT_EQ(ToMap(MakeResource({.name = "billing", .node = "vm-1", .unit = "billing.service"})),
            (Attributes{{"host.name", "vm-1"}, {"systemd.unit", "billing.service"}}));
  EXPECT_EQ(ToMap(MakeResource({.name = "w",
                                .ns = "shop",
                                .pod = "cart-1",
                                .container = "app",
                                .node = "node-a",
                                .kubernetes = true})),
            (Attributes{{"host.name", "node-a"},
                        {"k8s.namespace.name", "shop"},
                        {"k8s.pod.name", "cart-1"},
                        {"k8s.container.name", "app"},
                        {"k8s.node.name", "node-a"}}));
}

TEST(ResourceTest, TakesOtherAttributesFromAnnotationsUpToALimit) {
  ResourceFacts facts{.name = "w", .node = "vm-1"};
  facts.labels["resource.opentelemetry.io/deployment.environment.name"] = "staging";
  facts.labels["resource.opentelemetry.io/host.name"] = "other";
  facts.labels["resource.opentelemetry.io/"] = "nothing";
  EXPECT_EQ(ToMap(MakeResource(facts)),
            (Attributes{{"host.name", "other"}, {"deployment.environment.name", "staging"}}));
  for (int i = 0; i < 40; ++i) {
    facts.labels["resource.opentelemetry.io/k" + std::to_string(i)] = "v";
  }
  EXPECT_EQ(MakeResource(facts).attributes.size(), 1U + 32U);
}

}  // namespace
}  // namespace weir::config
