#include "agent/database/tap.h"

#include "agent/database/mysql.h"
#include "agent/database/postgresql.h"
#include "agent/database/redis.h"

namespace weir::database {

observe::Protocol ProtocolOf(System system) {
  switch (system) {
    case System::kPostgresql:
      return observe::Protocol::kPostgresql;
    case System::kMysql:
      return observe::Protocol::kMysql;
    case System::kRedis:
      return observe::Protocol::kRedis;
  }
  return observe::Protocol::kOpaque;
}

std::string_view ToString(TapEnd value) {
  switch (value) {
    case TapEnd::kFollowing:
      return "following";
    case TapEnd::kTls:
      return "tls";
    case TapEnd::kCompression:
      return "compression";
    case TapEnd::kReplication:
      return "replication";
    case TapEnd::kSubscription:
      return "subscription";
    case TapEnd::kNoReplies:
      return "no-replies";
    case TapEnd::kCancel:
      return "cancel";
    case TapEnd::kRefused:
      return "refused";
    case TapEnd::kUnsupported:
      return "unsupported";
    case TapEnd::kMalformed:
      return "malformed";
    case TapEnd::kUnexpected:
      return "unexpected";
    case TapEnd::kLimit:
      return "limit";
  }
  return "unexpected";
}

std::unique_ptr<Tap> MakeTap(System system, CommandHandler& handler) {
  switch (system) {
    case System::kPostgresql:
      return std::make_unique<PostgresqlTap>(handler);
    case System::kMysql:
      return std::make_unique<MysqlTap>(handler);
    case System::kRedis:
      return std::make_unique<RedisTap>(handler);
  }
  return nullptr;
}

}  // namespace weir::database
