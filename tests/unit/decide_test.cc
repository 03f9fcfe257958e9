#include "agent/policy/decide.h"

#include <gtest/gtest.h>

namespace weir::policy {
namespace {

const model::Snapshot& Mesh() {
  static const model::Snapshot snapshot({.revision = 1,
                                         .trust_domain = "mesh.test",
                                         .node_name = "a",
                                         .mesh_ranges = {},
                                         .workloads = {},
                                         .locals = {},
                                         .limits = {}});
  return snapshot;
}

Decision Ask(const char* identity, model::TlsMode mode) {
  model::LocalWorkload destination;
  destination.tls_mode = mode;
  if (identity == nullptr) {
    return Decide(Mesh(), {}, destination).decision;
  }
  const auto id = model::SpiffeId::Parse(identity).value();
  return Decide(Mesh(), {.identity = &id}, destination).decision;
}

TEST(DecideTest, AdmitsPlainTextOnlyWherePermissive) {
  EXPECT_EQ(Ask(nullptr, model::TlsMode::kStrict), Decision::kDeny);
  EXPECT_EQ(Ask(nullptr, model::TlsMode::kPermissive), Decision::kAllow);
}

TEST(DecideTest, AdmitsOnlyItsOwnTrustDomain) {
  for (const auto mode : {model::TlsMode::kStrict, model::TlsMode::kPermissive}) {
    EXPECT_EQ(Ask("spiffe://mesh.test/workload/a", mode), Decision::kAllow);
    EXPECT_EQ(Ask("spiffe://other.test/workload/a", mode), Decision::kDeny);
    EXPECT_EQ(Ask("spiffe://mesh.test.other/workload/a", mode), Decision::kDeny);
  }
}

}  // namespace
}  // namespace weir::policy
