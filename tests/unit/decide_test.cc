#include "agent/policy/decide.h"

#include <gtest/gtest.h>

#include <memory>

namespace weir::policy {
namespace {

using model::PermissionEffect;
using model::PermissionMatch;

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

model::PermissionRulePtr Rule(PermissionEffect effect, const char* name) {
  return std::make_shared<const model::PermissionRule>(
      model::PermissionRule{.effect = effect, .name = name, .source = "m.yaml:1"});
}

model::LocalWorkload MakeDestination(model::TlsMode mode) {
  auto set = std::make_shared<model::PermissionSet>();
  set->Add({.kind = PermissionMatch::Kind::kExact,
            .spiffe_id = "spiffe://mesh.test/workload/a",
            .server_name = {}},
           Rule(PermissionEffect::kAllow, "a-may"));
  set->Add({.kind = PermissionMatch::Kind::kPrefix,
            .spiffe_id = "spiffe://mesh.test/ns/old/",
            .server_name = {}},
           Rule(PermissionEffect::kAllowWithShadowDeny, "old-may-for-now"));
  set->Add({.kind = PermissionMatch::Kind::kPrefix,
            .spiffe_id = "spiffe://other.test/",
            .server_name = {}},
           Rule(PermissionEffect::kAllow, "others-may"));
  model::LocalWorkload destination;
  destination.tls_mode = mode;
  destination.permissions.general = std::move(set);
  return destination;
}

// Lives on, as verdicts have views into it.
const model::LocalWorkload& Destination(model::TlsMode mode = model::TlsMode::kStrict) {
  static const model::LocalWorkload strict = MakeDestination(model::TlsMode::kStrict);
  static const model::LocalWorkload permissive = MakeDestination(model::TlsMode::kPermissive);
  return mode == model::TlsMode::kStrict ? strict : permissive;
}

Verdict Ask(const char* identity, const model::LocalWorkload& destination,
            std::uint16_t port = 80) {
  if (identity == nullptr) {
    return Decide(Mesh(), {}, destination, port);
  }
  const auto id = model::SpiffeId::Parse(identity).value();
  return Decide(Mesh(), {.identity = &id}, destination, port);
}

TEST(DecideTest, AdmitsPlainTextOnlyWherePermissive) {
  const Verdict strict = Ask(nullptr, Destination());
  EXPECT_EQ(strict.decision, Decision::kDeny);
  EXPECT_EQ(strict.rule, "strict-needs-mtls");
  const Verdict permissive = Ask(nullptr, Destination(model::TlsMode::kPermissive));
  EXPECT_EQ(permissive.decision, Decision::kAllow);
  EXPECT_EQ(permissive.outcome, Outcome::kPlainText);
  EXPECT_EQ(permissive.rule, "permissive");
}

TEST(DecideTest, JudgesIdentitiesByTheRulesInBothModes) {
  for (const auto mode : {model::TlsMode::kStrict, model::TlsMode::kPermissive}) {
    const Verdict a = Ask("spiffe://mesh.test/workload/a", Destination(mode));
    EXPECT_EQ(a.decision, Decision::kAllow);
    EXPECT_EQ(a.outcome, Outcome::kAllow);
    EXPECT_EQ(a.rule, "a-may");
    const Verdict b = Ask("spiffe://mesh.test/workload/b", Destination(mode));
    EXPECT_EQ(b.decision, Decision::kDeny);
    EXPECT_EQ(b.rule, "default-deny");
    EXPECT_EQ(b.permission, nullptr);
  }
}

TEST(DecideTest, AllowsAndCountsWhatIsAboutToBeDenied) {
  const Verdict old = Ask("spiffe://mesh.test/ns/old/sa/x", Destination());
  EXPECT_EQ(old.decision, Decision::kAllow);
  EXPECT_EQ(old.outcome, Outcome::kShadowDeny);
  EXPECT_EQ(old.rule, "old-may-for-now");
}

TEST(DecideTest, DeniesOtherTrustDomainsWhateverARuleSays) {
  for (const char* other : {"spiffe://other.test/workload/a", "spiffe://mesh.test.other/x"}) {
    const Verdict verdict = Ask(other, Destination());
    EXPECT_EQ(verdict.decision, Decision::kDeny);
    EXPECT_EQ(verdict.rule, "other-trust-domain");
  }
}

TEST(DecideTest, DeniesWhereNoRuleSelectsThePort) {
  model::LocalWorkload destination = Destination();
  destination.permissions.by_port.emplace(81, nullptr);
  EXPECT_EQ(Ask("spiffe://mesh.test/workload/a", destination, 80).decision, Decision::kAllow);
  EXPECT_EQ(Ask("spiffe://mesh.test/workload/a", destination, 81).decision, Decision::kDeny);
  EXPECT_EQ(Ask("spiffe://mesh.test/workload/a", {}, 80).decision, Decision::kDeny);
}

}  // namespace
}  // namespace weir::policy
