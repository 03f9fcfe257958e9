#pragma once

#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/ip.h"
#include "agent/observe/record.h"

// The fields that a filter can name. Internal to the admin module.
namespace weir::admin {

enum class FieldType : std::uint8_t { kText, kWord, kNumber, kStatus, kDuration, kBytes, kAddress };

// The values of one field; a field of either side has two, a workload's name counts with and
// without its namespace.
template <typename T>
class FieldValues {
 public:
  void Add(T value) { values_.push_back(std::move(value)); }
  [[nodiscard]] std::span<const T> get() const { return values_; }

 private:
  boost::container::small_vector<T, 4> values_;  // tags alone can be more
};

// Field knows how to take its values out of a flow; only the function of its type is set.
// Durations are in nanoseconds, sizes in bytes.
struct Field {
  std::string_view name;
  std::string_view help;
  FieldType type = FieldType::kText;
  void (*texts)(const observe::Flow&, FieldValues<std::string>&) = nullptr;
  void (*numbers)(const observe::Flow&, FieldValues<std::int64_t>&) = nullptr;
  void (*addresses)(const observe::Flow&, FieldValues<base::IpAddress>&) = nullptr;
  std::span<const std::string_view> words{};  // of a kWord: all that it can be
};

std::span<const Field> Fields();
// Null when there is none of that name.
const Field* FindField(std::string_view name);

}  // namespace weir::admin
