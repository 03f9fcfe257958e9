#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"

namespace weir::config {

// Place is where something stands in a file; `line` counts from 1, 0 is the whole file.
struct Place {
  std::string file;
  int line = 0;

  [[nodiscard]] std::string ToString() const;  // "mesh.yaml:41", or "mesh.yaml"
};

enum class Severity : std::uint8_t { kError, kWarning };

// Diagnostic is one finding about a configuration file, worded for its author.
struct Diagnostic {
  Severity severity = Severity::kError;
  Place place;
  std::string text;

  // One line: "mesh.yaml:41: error: unknown field "fron", did you mean "from"".
  [[nodiscard]] std::string ToString() const;
};

// Diagnostics collects findings, errors and warnings in the order they were found. At
// most kMost of each severity are kept, so that hostile files cannot fill the memory; the
// rest is counted.
class Diagnostics {
 public:
  static constexpr std::size_t kMost = 1000;

  void Error(const Place& place, std::string text);
  void Warn(const Place& place, std::string text);
  void Append(const Diagnostics& other);

  [[nodiscard]] const std::vector<Diagnostic>& all() const { return all_; }
  [[nodiscard]] std::size_t error_count() const { return error_count_; }
  [[nodiscard]] bool ok() const { return error_count_ == 0; }
  [[nodiscard]] std::vector<Diagnostic> Errors() const;
  [[nodiscard]] std::vector<Diagnostic> Warnings() const;

 private:
  void Add(Diagnostic diagnostic);

  std::vector<Diagnostic> all_;
  std::size_t error_count_ = 0;
  std::size_t warning_count_ = 0;
};

// Why a configuration is refused, in one line: its first error, and how many more there are.
// `diagnostics` has at least one.
base::Error RefusalOf(const Diagnostics& diagnostics, std::string remedy);

// All of `findings`, one per line, each line ended.
std::string ToText(const std::vector<Diagnostic>& findings);

}  // namespace weir::config
