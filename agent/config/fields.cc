#include "agent/config/fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "agent/base/nearest_name.h"
#include "agent/config/diagnostic.h"
#include "agent/config/yaml.h"

namespace weir::config {
namespace {

constexpr std::size_t kMaxQuotedBytes = 64;  // of a wrong value in a finding

// A value as findings quote it: printable and short.
std::string Quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text.substr(0, kMaxQuotedBytes)) {
    quoted += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  quoted += text.size() > kMaxQuotedBytes ? "...\"" : "\"";
  return quoted;
}

std::string_view KindName(NodeKind kind) {
  switch (kind) {
    case NodeKind::kNull:
      return "nothing";
    case NodeKind::kScalar:
      return "a single value";
    case NodeKind::kSequence:
      return "a list";
    case NodeKind::kMap:
      return "a map";
  }
  return "nothing";
}

std::string Wanted(std::string_view name, std::string_view wanted, const Node& node) {
  std::string text = "\"" + std::string(name) + "\" must be " + std::string(wanted) + ", not ";
  return node.kind == NodeKind::kScalar ? text + Quote(node.scalar)
                                        : text + std::string(KindName(node.kind));
}

struct Unit {
  std::string_view name;
  std::uint64_t factor = 1;
};
constexpr std::array<Unit, 4> kDurationUnits{{{.name = "ms", .factor = 1},
                                              {.name = "s", .factor = 1000},
                                              {.name = "m", .factor = 60'000},
                                              {.name = "h", .factor = 3'600'000}}};
constexpr std::array<Unit, 3> kSizeUnits{{{.name = "KiB", .factor = 1ULL << 10U},
                                          {.name = "MiB", .factor = 1ULL << 20U},
                                          {.name = "GiB", .factor = 1ULL << 30U}}};

// Takes "NUMBER UNIT" from the front of `text`; nothing on an unknown unit or overflow.
std::optional<std::uint64_t> TakeQuantity(std::string_view& text, std::span<const Unit> units) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseUnsigned(text.substr(0, digits));
  text.remove_prefix(digits);
  const std::string_view word = text.substr(0, text.find_first_of("0123456789"));
  const auto unit = std::ranges::find(units, word, &Unit::name);
  if (!number || unit == units.end() ||
      *number > std::numeric_limits<std::int64_t>::max() / unit->factor) {
    return std::nullopt;
  }
  text.remove_prefix(word.size());
  return *number * unit->factor;
}

std::optional<std::uint64_t> ParseDuration(std::string_view text) {
  if (text == "0") {
    return 0;
  }
  std::uint64_t total = 0;
  do {
    const auto part = TakeQuantity(text, kDurationUnits);
    if (!part || *part > std::numeric_limits<std::int64_t>::max() - total) {
      return std::nullopt;
    }
    total += *part;
  } while (!text.empty());
  return total;
}

std::optional<std::uint64_t> ParseSize(std::string_view text) {
  if (const auto plain = ParseUnsigned(text)) {
    return plain;
  }
  const auto size = TakeQuantity(text, kSizeUnits);
  return text.empty() ? size : std::nullopt;
}

std::string DurationText(std::uint64_t milliseconds) {
  for (const Unit& unit : {kDurationUnits[3], kDurationUnits[2], kDurationUnits[1]}) {
    if (milliseconds >= unit.factor && milliseconds % unit.factor == 0) {
      return std::to_string(milliseconds / unit.factor).append(unit.name);
    }
  }
  return std::to_string(milliseconds) + "ms";
}

std::string SizeText(std::uint64_t bytes) {
  for (const Unit& unit : {kSizeUnits[2], kSizeUnits[1], kSizeUnits[0]}) {
    if (bytes >= unit.factor && bytes % unit.factor == 0) {
      return std::to_string(bytes / unit.factor).append(unit.name);
    }
  }
  return std::to_string(bytes);
}

}  // namespace

void Reader::Error(const Node& node, std::string text) const {
  diagnostics->Error(At(node), std::move(text));
}

void Reader::Warn(const Node& node, std::string text) const {
  diagnostics->Warn(At(node), std::move(text));
}

Fields::Fields(const Node& map, std::string what, const Reader& reader)
    : map_(&map), what_(std::move(what)), reader_(reader) {
  if (map.kind != NodeKind::kMap && map.kind != NodeKind::kNull) {
    reader_.Error(map, Wanted(what_, "a map of fields", map));
  }
}

const Node* Fields::Take(std::string_view name) {
  known_.push_back(name);
  const Node* node = map_->Find(name);
  return node == nullptr || node->kind == NodeKind::kNull ? nullptr : node;
}

const Node* Fields::Require(std::string_view name) {
  const Node* node = Take(name);
  if (node == nullptr && (map_->kind == NodeKind::kMap || map_->kind == NodeKind::kNull)) {
    reader_.Error(*map_, what_ + " has no \"" + std::string(name) + "\"");
  }
  return node;
}

void Fields::Accept(std::initializer_list<std::string_view> names) {
  known_.insert(known_.end(), names);
}

void Fields::NotActedOn(std::initializer_list<std::string_view> names, std::string_view why) {
  for (const std::string_view name : names) {
    if (Take(name) != nullptr) {
      std::string text = "\"" + std::string(name) + "\" of " + what_ + " is not acted on";
      text += why.empty() ? std::string() : ": " + std::string(why);
      reader_.diagnostics->Warn(PlaceOf(name), std::move(text));
    }
  }
}

std::optional<std::string> Fields::String(std::string_view name) {
  const Node* node = Take(name);
  return node == nullptr ? std::nullopt : ReadString(*node, name, reader_);
}

std::optional<bool> Fields::Bool(std::string_view name) {
  const Node* node = Take(name);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (node->kind == NodeKind::kScalar && !node->quoted &&
      (node->scalar == "true" || node->scalar == "false")) {
    return node->scalar == "true";
  }
  reader_.Error(*node, Wanted(name, "true or false", *node));
  return std::nullopt;
}

std::optional<std::uint64_t> Fields::Unsigned(std::string_view name, Range range) {
  const Node* node = Take(name);
  if (node == nullptr) {
    return std::nullopt;
  }
  const auto number =
      node->kind == NodeKind::kScalar && !node->quoted ? ParseUnsigned(node->scalar) : std::nullopt;
  if (!number || *number < range.least || *number > range.most) {
    reader_.Error(*node, Wanted(name,
                                "a number from " + std::to_string(range.least) + " to " +
                                    std::to_string(range.most),
                                *node));
    return std::nullopt;
  }
  return number;
}

std::optional<std::chrono::milliseconds> Fields::Duration(std::string_view name,
                                                          std::chrono::milliseconds least,
                                                          std::chrono::milliseconds most) {
  const Node* node = Take(name);
  if (node == nullptr) {
    return std::nullopt;
  }
  const Range range{.least = static_cast<std::uint64_t>(least.count()),
                    .most = static_cast<std::uint64_t>(most.count())};
  const auto duration =
      node->kind == NodeKind::kScalar ? ParseDuration(node->scalar) : std::nullopt;
  if (!duration || *duration < range.least || *duration > range.most) {
    reader_.Error(*node, Wanted(name,
                                "a duration from " + DurationText(range.least) + " to " +
                                    DurationText(range.most) + ", such as 5s, 100ms or 1h30m",
                                *node));
    return std::nullopt;
  }
  return std::chrono::milliseconds(*duration);
}

std::optional<std::uint64_t> Fields::Size(std::string_view name, Range range) {
  const Node* node = Take(name);
  if (node == nullptr) {
    return std::nullopt;
  }
  const auto size = node->kind == NodeKind::kScalar ? ParseSize(node->scalar) : std::nullopt;
  if (!size || *size < range.least || *size > range.most) {
    reader_.Error(*node, Wanted(name,
                                "a size from " + SizeText(range.least) + " to " +
                                    SizeText(range.most) + ", such as 65536, 64KiB or 64MiB",
                                *node));
    return std::nullopt;
  }
  return size;
}

std::map<std::string, std::string> Fields::StringMap(std::string_view name) {
  std::map<std::string, std::string> words;
  const Node* node = Take(name);
  if (node == nullptr) {
    return words;
  }
  if (node->kind != NodeKind::kMap) {
    reader_.Error(*node, Wanted(name, "a map of words to words", *node));
    return words;
  }
  for (const MapEntry& entry : node->entries) {
    if (entry.value->kind == NodeKind::kNull) {
      words.emplace(entry.key, "");
    } else if (auto text = ReadString(*entry.value, entry.key, reader_)) {
      words.emplace(entry.key, std::move(*text));
    }
  }
  return words;
}

void Fields::ForEach(std::string_view name, const std::function<void(const Node&)>& each) {
  const Node* node = Take(name);
  if (node == nullptr) {
    return;
  }
  if (node->kind != NodeKind::kSequence) {
    reader_.Error(*node, Wanted(name, "a list", *node));
    return;
  }
  for (const NodePtr& item : node->items) {
    each(*item);
  }
}

void Fields::Finish() {
  for (const MapEntry& entry : map_->entries) {
    if (std::ranges::find(known_, entry.key) == known_.end()) {
      reader_.diagnostics->Error(
          {.file = *reader_.file, .line = entry.line},
          "unknown field " + Quote(entry.key) + " in " + what_ + DidYouMean(entry.key, known_));
    }
  }
}

Place Fields::PlaceOf(std::string_view name) const {
  const auto found = std::ranges::find(map_->entries, name, &MapEntry::key);
  return {.file = *reader_.file, .line = found == map_->entries.end() ? map_->line : found->line};
}

void Fields::ErrorAt(std::string_view name, const std::string& text) const {
  reader_.diagnostics->Error(PlaceOf(name), "\"" + std::string(name) + "\": " + text);
}

std::optional<std::string> ReadString(const Node& node, std::string_view name,
                                      const Reader& reader) {
  if (node.kind != NodeKind::kScalar) {
    reader.Error(node, Wanted(name, "text", node));
    return std::nullopt;
  }
  return node.scalar;
}

std::optional<std::uint64_t> ParseUnsigned(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::size_t> ReadChoice(const Node& node, std::string_view name,
                                      std::initializer_list<std::string_view> names,
                                      const Reader& reader) {
  if (node.kind == NodeKind::kScalar) {
    const auto* const found = std::ranges::find(names, node.scalar);
    if (found != names.end()) {
      return static_cast<std::size_t>(found - names.begin());
    }
  }
  std::string wanted;
  for (const std::string_view& one : names) {
    const std::string_view joint = &one == names.end() - 1 ? " or " : ", ";
    wanted += wanted.empty() ? std::string_view() : joint;
    wanted += one;
  }
  const std::string nearest =
      node.kind == NodeKind::kScalar ? DidYouMean(node.scalar, names) : std::string();
  reader.Error(node, Wanted(name, wanted, node) + nearest);
  return std::nullopt;
}

std::string DidYouMean(std::string_view word, const std::vector<std::string_view>& candidates) {
  const std::string_view nearest = base::NearestName(word, candidates);
  return nearest.empty() ? std::string() : ", did you mean \"" + std::string(nearest) + "\"";
}

bool IsName(std::string_view text) {
  constexpr std::size_t kMaxNameBytes = 253;
  const auto is_alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kMaxNameBytes && is_alnum(text.front()) &&
         is_alnum(text.back()) && std::ranges::all_of(text, [&](char c) {
           return is_alnum(c) || c == '-' || c == '.' || c == '_';
         });
}

}  // namespace weir::config
