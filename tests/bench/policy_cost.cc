// What a decision of the policy costs with one rule and with ten thousand, in turns:
//   weir_policy_cost [ROUNDS]
// prints nanoseconds of CPU time per decision, medians, and their ratio.
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/model/permissions.h"
#include "agent/policy/decide.h"

namespace weir {
namespace {

constexpr int kDecisions = 200000;  // of one turn
constexpr std::size_t kManyRules = 10000;

double CpuNanoseconds() {
  ::timespec now{};
  (void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// The rule that decides and `count` - 1 for others, half of them prefixes.
model::LocalWorkload Destination(model::PermissionMatch::Kind kind, std::size_t count) {
  auto set = std::make_shared<model::PermissionSet>();
  const auto add = [&](model::PermissionMatch::Kind of, const std::string& id) {
    set->Add({.kind = of, .spiffe_id = id, .server_name = {}},
             std::make_shared<const model::PermissionRule>(model::PermissionRule{
                 .effect = model::PermissionEffect::kAllow, .name = id, .source = "bench"}));
  };
  using Kind = model::PermissionMatch::Kind;
  for (std::size_t i = 1; i < count; ++i) {
    const std::string number = std::to_string(i);
    i % 2 == 0 ? add(Kind::kExact, "spiffe://mesh.test/ns/shop-" + number + "/sa/cart")
               : add(Kind::kPrefix, "spiffe://mesh.test/ns/team-" + number + "/");
  }
  add(kind, kind == Kind::kExact ? "spiffe://mesh.test/ns/team-0/sa/cart"
                                 : "spiffe://mesh.test/ns/team-0/");
  model::LocalWorkload destination;
  destination.permissions.general = std::move(set);
  return destination;
}

double Turn(const model::Snapshot& snapshot, const model::LocalWorkload& destination,
            const model::SpiffeId& caller) {
  const double before = CpuNanoseconds();
  int allowed = 0;
  for (int i = 0; i < kDecisions; ++i) {
    const auto verdict = policy::Decide(snapshot, {.identity = &caller}, destination, 80);
    allowed += verdict.decision == policy::Decision::kAllow ? 1 : 0;
  }
  const double used = CpuNanoseconds() - before;
  if (allowed != kDecisions) {
    std::fprintf(stderr, "a decision was wrong\n");
    std::exit(1);
  }
  return used / kDecisions;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int Measure(int rounds) {
  model::Snapshot::Parts parts;
  parts.trust_domain = "mesh.test";
  const model::Snapshot snapshot(std::move(parts));
  const auto caller = model::SpiffeId::Parse("spiffe://mesh.test/ns/team-0/sa/cart");
  using Kind = model::PermissionMatch::Kind;
  for (const auto& [name, kind] :
       {std::pair{"exact", Kind::kExact}, std::pair{"prefix", Kind::kPrefix}}) {
    const auto one = Destination(kind, 1);
    const auto many = Destination(kind, kManyRules);
    std::array<std::vector<double>, 2> times;
    for (int round = 0; round < rounds; ++round) {
      times[0].push_back(Turn(snapshot, one, *caller));
      times[1].push_back(Turn(snapshot, many, *caller));
    }
    const double few_ns = Median(times[0]);
    const double many_ns = Median(times[1]);
    std::printf("%s: %.0f ns with 1 rule, %.0f ns with %zu rules, x%.2f\n", name, few_ns, many_ns,
                kManyRules, many_ns / few_ns);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 21;
  return weir::Measure(std::max(rounds, 1));
}
