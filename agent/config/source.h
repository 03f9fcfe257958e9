#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/config/builder.h"
#include "agent/io/event_loop.h"

namespace weir::config {

// A configuration that was refused; the one before stays in force.
struct Rejection {
  std::vector<Diagnostic> errors;
  base::WallTime when{};
};

// What `weir status` shows of the configuration.
struct SourceStatus {
  std::uint64_t revision = 0;               // of the snapshot in force
  base::WallTime loaded_at{};               // when it was taken
  std::uint64_t reload_count = 0;           // sets that were taken
  std::uint64_t rejection_count = 0;        // sets that were refused
  std::optional<Rejection> last_rejection;  // empty when the newest set was taken
  std::vector<Diagnostic> warnings;         // of the set in force
};

// ConfigSource keeps the snapshot up to date with a directory of documents: it watches the
// directory (editors' renames, a replaced directory and kubelet's ..data swaps included),
// gathers bursts, and rebuilds. A bad set is refused whole. Control thread.
class ConfigSource {
 public:
  struct Options {
    // A new configuration; the callee spreads it.
    std::function<void(const BuildResult&)> on_published;
    std::function<void(const Rejection&)> on_rejected;
    base::Nanoseconds gather = std::chrono::milliseconds(50);  // how long a burst is gathered
  };
  static base::Result<std::unique_ptr<ConfigSource>> Create(io::EventLoop& loop, AgentConfig agent,
                                                            Options options);
  ConfigSource(const ConfigSource&) = delete;
  ConfigSource& operator=(const ConfigSource&) = delete;
  virtual ~ConfigSource() = default;

  // Reads the directory for the first time and publishes. A bad set is an error that tells
  // what is wrong: there is no good one to fall back to, so the agent must not start.
  virtual base::Result<void> Start(std::set<std::string> present) = 0;
  // Another set of local workloads (display names) exists: rebuilds at once.
  virtual void SetPresent(std::set<std::string> present) = 0;
  // Another agent.yaml (SIGHUP): rebuilds at once, whole or not at all.
  virtual base::Result<void> SetAgentConfig(AgentConfig agent) = 0;
  // Reads the directory again now.
  virtual void Reload() = 0;

  [[nodiscard]] virtual const SourceStatus& status() const = 0;
  // The configuration in force; null before Start.
  [[nodiscard]] virtual const BuildResult* current() const = 0;
  // The stable id of a workload by display name.
  virtual model::LocalId IdOf(const std::string& display_name) = 0;

 protected:
  ConfigSource() = default;
};

}  // namespace weir::config
