#pragma once

#include <optional>

#include "agent/database/tap.h"

namespace weir::database {

// MySQL's port: its server speaks first, and its greeting alone is little to go by.
inline constexpr std::uint16_t kMysqlPort = 3306;

// The system whose client's first bytes these are: a PostgreSQL startup, TLS or GSS request or
// cancellation, or a Redis command as an array. None if it could be anything else. Pure.
std::optional<System> DetectClient(Bytes first);

// Whether a server's first bytes are a MySQL greeting (protocol version 10). Pure.
bool IsMysqlGreeting(Bytes first);

}  // namespace weir::database
