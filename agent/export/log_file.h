#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::telemetry {

// LogFile is the file of a LogWriter, for its thread alone: opening, writing, rotation. It
// blocks where a disk does; a FIFO, terminal or socket that takes nothing is given up when
// `stop_fd` becomes readable.
class LogFile {
 public:
  // `stop_fd` outlives the object.
  LogFile(std::string path, int stop_fd) : path_(std::move(path)), stop_fd_(stop_fd) {}

  [[nodiscard]] bool is_open() const { return fd_.valid(); }
  base::Result<void> Open();
  void Close() { fd_.Reset(); }

  // How far `lines` got into the file: whole lines only.
  struct Outcome {
    std::size_t written_bytes = 0;
    base::Result<void> result;
  };
  Outcome Write(std::string_view lines);

  // Whether `more_bytes` would bring a regular file, that is not empty, beyond `limit`.
  [[nodiscard]] bool IsFull(std::uint64_t more_bytes, std::uint64_t limit) const;
  // Renames PATH to PATH.1, PATH.1 to PATH.2 and so on, then opens PATH anew.
  base::Result<void> Rotate(unsigned keep);

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
