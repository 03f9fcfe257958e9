#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/base/error.h"

namespace weir::telemetry {

// LogOutput is where a LogWriter's lines go: a file or a TCP connection. For the writer's
// thread alone; it may block, but not beyond the writer's stop.
class LogOutput {
 public:
  LogOutput() = default;
  LogOutput(const LogOutput&) = delete;
  LogOutput& operator=(const LogOutput&) = delete;
  virtual ~LogOutput() = default;

  [[nodiscard]] virtual bool is_open() const = 0;
  virtual base::Result<void> Open() = 0;
  virtual void Close() = 0;

  // How far `lines` got: whole lines only.
  struct Outcome {
    std::size_t written_bytes = 0;
    base::Result<void> result;
  };
  virtual Outcome Write(std::string_view lines) = 0;

  // Whether `more_bytes` would bring a regular file, that is not empty, beyond `limit`.
  [[nodiscard]] virtual bool IsFull(std::uint64_t /*more_bytes*/, std::uint64_t /*limit*/) const {
    return false;
  }
  // Renames PATH to PATH.1, PATH.1 to PATH.2 and so on, then opens PATH anew. Only what can be
  // full is asked for it.
  virtual base::Result<void> Rotate(unsigned /*keep*/) { return {}; }
};

}  // namespace weir::telemetry
