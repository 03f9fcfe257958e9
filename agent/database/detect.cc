#include "agent/database/detect.h"

#include "agent/database/postgresql.h"

namespace weir::database {
namespace {

bool IsPostgresql(Bytes first) {
  FieldReader reader(first);
  const std::uint64_t length = reader.BigEndian(4);
  const std::uint64_t code = reader.BigEndian(4);
  if (!reader.ok()) {
    return false;
  }
  switch (code) {
    case kPostgresqlSslRequest:
    case kPostgresqlGssRequest:
      return length == 8;
    case kPostgresqlCancelRequest:
      return length >= 16 && length <= kMaxPostgresqlStartupBytes;
    default:
      return code >> 16U == 3 && length > 8 && length <= kMaxPostgresqlStartupBytes;
  }
}

// "*N\r\n$": N has at most seven digits.
bool IsRedis(Bytes first) {
  constexpr std::size_t kMostDigits = 7;
  std::string_view text = AsText(first);
  if (!text.starts_with('*')) {
    return false;
  }
  text.remove_prefix(1);
  const std::size_t digits = text.find_first_not_of("0123456789");
  return digits != std::string_view::npos && digits >= 1 && digits <= kMostDigits &&
         text.substr(digits).starts_with("\r\n$");
}

}  // namespace

std::optional<System> DetectClient(Bytes first) {
  if (IsPostgresql(first)) {
    return System::kPostgresql;
  }
  return IsRedis(first) ? std::optional(System::kRedis) : std::nullopt;
}

bool IsMysqlGreeting(Bytes first) {
  FieldReader reader(first);
  const std::uint64_t length = reader.LittleEndian(3);
  const std::uint64_t sequence = reader.LittleEndian(1);
  const std::uint64_t version = reader.LittleEndian(1);
  constexpr std::uint64_t kLeast = 32;
  constexpr std::uint64_t kMost = 512;
  return reader.ok() && length >= kLeast && length <= kMost && sequence == 0 && version == 10;
}

}  // namespace weir::database
