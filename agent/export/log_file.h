#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/export/log_output.h"

namespace weir::telemetry {

// LogFile is the file of a LogWriter, for its thread alone: opening, writing, rotation. It
// blocks where a disk does; a FIFO, terminal or socket that takes nothing is given up when
// `stop_fd` becomes readable.
class LogFile final : public LogOutput {
 public:
  // `stop_fd` outlives the object.
  LogFile(std::string path, int stop_fd) : path_(std::move(path)), stop_fd_(stop_fd) {}

  [[nodiscard]] bool is_open() const override { return fd_.valid(); }
  base::Result<void> Open() override;
  void Close() override { fd_.Reset(); }
  Outcome Write(std::string_view lines) override;
  [[nodiscard]] bool IsFull(std::uint64_t more_bytes, std::uint64_t limit) const override;
  base::Result<void> Rotate(unsigned keep) override;

 private:
  // Bytes that were written before the error, if there was one.
  Outcome WriteBytes(std::string_view bytes);
  base::Result<void> AwaitRoom();

  std::string path_;
  int stop_fd_;
  base::UniqueFd fd_;
  bool is_regular_ = false;
  bool is_socket_ = false;
  bool is_torn_ = false;    // the last line lacks its end
  std::uint64_t size_ = 0;  // of a regular file
};

}  // namespace weir::telemetry
