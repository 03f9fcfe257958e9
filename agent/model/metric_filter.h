#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"

namespace re2 {
class RE2;
}

namespace weir::model {

// Which families of metrics a profile of MeshMetric has: docs/metrics.md lists them.
enum class MetricProfile : std::uint8_t { kAll, kBasic, kNone };

// Names some families.
struct MetricSelector {
  enum class Type : std::uint8_t { kPrefix, kRegex, kExact, kContains };
  Type type = Type::kExact;
  std::string match;  // of kRegex RE2's syntax, found anywhere in the name
  friend bool operator==(const MetricSelector&, const MetricSelector&) = default;
};
inline constexpr std::size_t kMaxMetricSelectors = 64;  // included, and as many excluded
inline constexpr std::size_t kMaxMetricMatchBytes = 512;

// What MeshMetric's `profiles` say: included beats excluded beats the profiles, of which what
// one has is had; without a profile it is all.
struct MetricSelection {
  std::vector<MetricProfile> profiles{};
  std::vector<MetricSelector> include{};
  std::vector<MetricSelector> exclude{};
  friend bool operator==(const MetricSelection&, const MetricSelection&) = default;
};

// MetricFilter is a selection that is ready to be asked. A default one admits everything. Any
// thread. Matching takes time linear in the name, whatever the patterns are.
class MetricFilter {
 public:
  MetricFilter() = default;
  // A pattern that RE2 does not take, or that needs more than 64 KiB, is kInvalidArgument.
  static base::Result<MetricFilter> Make(MetricSelection selection);

  // Whether the family `name` is selected: by that name, or, of a counter, also by the name with
  // "_total".
  [[nodiscard]] bool Admits(std::string_view name, bool is_counter) const;
  [[nodiscard]] const MetricSelection& selection() const { return selection_; }

 private:
  // Of the selectors of one list, in their order; null where it is no pattern.
  using Patterns = std::vector<std::shared_ptr<const re2::RE2>>;

  static bool Matches(const std::vector<MetricSelector>& selectors, const Patterns& patterns,
                      std::string_view name);

  MetricSelection selection_;
  Patterns include_;
  Patterns exclude_;
};

}  // namespace weir::model
