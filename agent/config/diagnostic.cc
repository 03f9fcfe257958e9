#include "agent/config/diagnostic.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir::config {
namespace {

std::vector<Diagnostic> Only(const std::vector<Diagnostic>& all, Severity severity) {
  std::vector<Diagnostic> kept;
  std::ranges::copy_if(all, std::back_inserter(kept),
                       [&](const Diagnostic& one) { return one.severity == severity; });
  return kept;
}

}  // namespace

std::string Place::ToString() const {
  return line > 0 ? file + ":" + std::to_string(line) : file;
}

std::string Diagnostic::ToString() const {
  const std::string_view word = severity == Severity::kError ? ": error: " : ": warning: ";
  return place.ToString().append(word).append(text);
}

void Diagnostics::Error(const Place& place, std::string text) {
  Add({.severity = Severity::kError, .place = place, .text = std::move(text)});
}

void Diagnostics::Warn(const Place& place, std::string text) {
  Add({.severity = Severity::kWarning, .place = place, .text = std::move(text)});
}

void Diagnostics::Append(const Diagnostics& other) {
  const std::size_t errors = error_count_ + other.error_count_;
  const std::size_t warnings = warning_count_ + other.warning_count_;
  for (const Diagnostic& one : other.all_) {
    Add(one);
  }
  error_count_ = errors;
  warning_count_ = warnings;
}

void Diagnostics::Add(Diagnostic diagnostic) {
  std::size_t& count = diagnostic.severity == Severity::kError ? error_count_ : warning_count_;
  if (count++ < kMost) {
    all_.push_back(std::move(diagnostic));
  }
}

std::vector<Diagnostic> Diagnostics::Errors() const {
  return Only(all_, Severity::kError);
}

std::vector<Diagnostic> Diagnostics::Warnings() const {
  return Only(all_, Severity::kWarning);
}

std::string ToText(const std::vector<Diagnostic>& findings) {
  std::string text;
  for (const Diagnostic& one : findings) {
    text += one.ToString() + "\n";
  }
  return text;
}

base::Error RefusalOf(const Diagnostics& diagnostics, std::string remedy) {
  std::string text = "configuration refused: " + diagnostics.Errors().front().ToString();
  if (diagnostics.error_count() > 1) {
    text += " (and " + std::to_string(diagnostics.error_count() - 1) + " more)";
  }
  return base::Error(base::ErrorCode::kInvalidArgument, std::move(text))
      .WithRemedy(std::move(remedy));
}

}  // namespace weir::config
