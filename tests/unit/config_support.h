#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "agent/config/agent_config.h"
#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"

namespace weir::config {

// A directory of a test's own, gone with it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "weir-config-XXXXXX").string();
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, std::string_view content) const {
    std::ofstream(File(name), std::ios::trunc) << content;
  }
  // As editors do: a new file, renamed over the old one.
  void Replace(const std::string& name, std::string_view content) const {
    Write(".new", content);
    std::filesystem::rename(File(".new"), File(name));
  }

 private:
  std::string path_;
};

// An entry of agent.yaml's workloads: `name` is "name" or "ns/name".
inline WorkloadConfig LocalAt(const std::string& name, const std::string& match,
                              MatchKind kind = MatchKind::kNetns) {
  WorkloadConfig workload;
  const std::size_t slash = name.find('/');
  workload.name = slash == std::string::npos ? name : name.substr(slash + 1);
  workload.ns = slash == std::string::npos ? "" : name.substr(0, slash);
  workload.match_kind = kind;
  workload.match = match;
  return workload;
}

// Whether an error or warning at `line` of any file has `text` in it.
inline bool Says(const Diagnostics& diagnostics, Severity severity, int line,
                 std::string_view text) {
  return std::ranges::any_of(diagnostics.all(), [&](const Diagnostic& one) {
    return one.severity == severity && one.place.line == line && one.text.contains(text);
  });
}

inline DocumentSet ParseText(std::string_view text, Diagnostics& diagnostics) {
  return ParseDocuments({{.name = "mesh.yaml", .content = std::string(text)}}, diagnostics);
}

// A document that lets everybody of "mesh.local" call everybody, to be put behind others.
inline constexpr std::string_view kEverybodyMay =
    "\n---\ntype: MeshTrafficPermission\nname: everybody\nspec: {rules: [{default: {allow: "
    "[{spiffeID: {type: Prefix, value: 'spiffe://mesh.local/'}}]}}]}\n";

// A Dataplane in the Universal form.
inline std::string DataplaneText(const std::string& name, const std::string& address,
                                 const std::string& labels = "", int port = 80) {
  return "---\ntype: Dataplane\nname: " + name + "\nlabels: {weir.io/node: node-a" +
         (labels.empty() ? "" : ", " + labels) + "}\nnetworking:\n  address: " + address +
         "\n  inbound:\n  - port: " + std::to_string(port) + "\n";
}

}  // namespace weir::config
