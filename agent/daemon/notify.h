#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace weir::daemon {

// Tells systemd about this service (sd_notify(3): READY=1, STOPPING=1, WATCHDOG=1, ...) by
// a datagram to NOTIFY_SOCKET. Does nothing when systemd did not start it.
void NotifySystemd(std::string_view state);

// How often the watchdog wants to hear of us, half of WATCHDOG_USEC; empty without one.
std::optional<std::chrono::microseconds> WatchdogInterval();

}  // namespace weir::daemon
