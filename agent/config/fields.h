#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/config/diagnostic.h"
#include "agent/config/yaml.h"

namespace weir::config {

// Reader says where the findings about one file go.
struct Reader {
  const std::string* file = nullptr;
  Diagnostics* diagnostics = nullptr;

  [[nodiscard]] Place At(const Node& node) const { return {.file = *file, .line = node.line}; }
  void Error(const Node& node, std::string text) const;
  void Warn(const Node& node, std::string text) const;
};

// Range of a number, ends included.
struct Range {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
};

// Fields reads one YAML map strictly: whoever takes every field that it knows and calls
// Finish gets an error for each other one, with the nearest known name. Every reader of a
// value reports what is wrong with it and then returns nothing. `map` outlives the object.
class Fields {
 public:
  // `what` names the map in findings, for example "networking". Another kind of value is
  // reported and then read as an empty map.
  Fields(const Node& map, std::string what, const Reader& reader);

  // The value of a field; null when absent or null.
  const Node* Take(std::string_view name);
  // The same, and its absence is an error.
  const Node* Require(std::string_view name);
  // Knows the field without looking at it.
  void Accept(std::initializer_list<std::string_view> names);
  // Knows the field, and warns that weir does not act on it, when it is there.
  void NotActedOn(std::initializer_list<std::string_view> names, std::string_view why = {});

  std::optional<std::string> String(std::string_view name);
  std::optional<bool> Bool(std::string_view name);
  std::optional<std::uint64_t> Unsigned(std::string_view name, Range range);
  // "5s", "100ms", "1h30m".
  std::optional<std::chrono::milliseconds> Duration(std::string_view name,
                                                    std::chrono::milliseconds least,
                                                    std::chrono::milliseconds most);
  // Bytes: a number, or "64KiB", "64MiB", "1GiB".
  std::optional<std::uint64_t> Size(std::string_view name, Range range);
  // A map of words to words; empty when absent.
  std::map<std::string, std::string> StringMap(std::string_view name);
  // Calls `each` for every item of a list; absent is an empty list.
  void ForEach(std::string_view name, const std::function<void(const Node&)>& each);

  // Reports the fields that nobody took.
  void Finish();

  [[nodiscard]] const Node& map() const { return *map_; }
  [[nodiscard]] const Reader& reader() const { return reader_; }
  // The line of a field's key, or of the map when it is absent.
  [[nodiscard]] Place PlaceOf(std::string_view name) const;
  void ErrorAt(std::string_view name, const std::string& text) const;

 private:
  const Node* map_;
  std::string what_;
  Reader reader_;
  std::vector<std::string_view> known_;  // literals of the callers
};

// The text of a scalar; anything else is reported.
std::optional<std::string> ReadString(const Node& node, std::string_view name,
                                      const Reader& reader);

// A decimal number without sign; nothing for anything else.
std::optional<std::uint64_t> ParseUnsigned(std::string_view text);

// One of `names`: its index. Anything else is reported with the nearest name.
std::optional<std::size_t> ReadChoice(const Node& node, std::string_view name,
                                      std::initializer_list<std::string_view> names,
                                      const Reader& reader);

// ", did you mean "NAME"" for the nearest of `candidates`, or nothing.
std::string DidYouMean(std::string_view word, const std::vector<std::string_view>& candidates);

// Whether `text` is a name as Kubernetes (RFC 1123 subdomain, 253 bytes at most) or Kuma on
// Universal (with '_' inside as well) has it.
bool IsName(std::string_view text);

}  // namespace weir::config
