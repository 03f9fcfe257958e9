#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/export/log_output.h"

namespace weir::telemetry {

inline constexpr std::string_view kTcpScheme = "tcp://";

// LogStream is the TCP connection of a LogWriter. What the peer sends is thrown away. Lines
// that the kernel took count as written; those that it still held when the connection broke
// are lost.
class LogStream final : public LogOutput {
 public:
  static constexpr std::chrono::seconds kConnectTimeout{5};

  // `target` is "tcp://HOST:PORT". `stop_fd` becomes readable and `stopped` true when the
  // writer stops; both outlive the object.
  LogStream(std::string_view target, int stop_fd, const std::atomic<bool>& stopped);

  [[nodiscard]] bool is_open() const override { return fd_.valid(); }
  base::Result<void> Open() override;
  void Close() override { fd_.Reset(); }
  Outcome Write(std::string_view lines) override;

 private:
  base::Result<void> Connect(const base::Endpoint& peer,
                             std::chrono::steady_clock::time_point deadline);
  // Waits until the socket can be written to, for ever without a `deadline`.
  base::Result<void> AwaitRoom(const std::chrono::steady_clock::time_point* deadline);
  // Throws away what the peer sent; an error when it has closed.
  base::Result<void> Discard();

  const std::string target_;
  std::string host_;
  std::uint16_t port_ = 0;
  const int stop_fd_;
  const std::atomic<bool>& stopped_;
  base::UniqueFd fd_;
};

}  // namespace weir::telemetry
