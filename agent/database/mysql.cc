#include "agent/database/mysql.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>

#include "agent/database/detect.h"
#include "agent/database/mysql_flags.h"
#include "agent/database/mysql_lenenc.h"

namespace weir::database {
namespace {

constexpr std::size_t kMaxDatabaseBytes = 128;
// Of more preparations under way at once the statements are not remembered.
constexpr std::size_t kMaxPreparing = 64;
constexpr std::size_t kKeepOfLogin = 1024;
constexpr std::size_t kKeepOfCommand = 64 + kMaxSqlBytes;
constexpr std::size_t kKeepOfReply = 128;
constexpr std::size_t kKeepOfGreeting = 512;

// Commands (enum_server_command).
enum Command : std::uint8_t {
  kComQuit = 1,
  kComInitDb = 2,
  kComQuery = 3,
  kComFieldList = 4,
  kComCreateDb = 5,
  kComDropDb = 6,
  kComRefresh = 7,
  kComShutdown = 8,
  kComStatistics = 9,
  kComProcessInfo = 10,
  kComProcessKill = 12,
  kComDebug = 13,
  kComPing = 14,
  kComChangeUser = 17,
  kComBinlogDump = 18,
  kComTableDump = 19,
  kComRegisterSlave = 21,
  kComStmtPrepare = 22,
  kComStmtExecute = 23,
  kComStmtSendLongData = 24,
  kComStmtClose = 25,
  kComStmtReset = 26,
  kComSetOption = 27,
  kComStmtFetch = 28,
  kComBinlogDumpGtid = 30,
  kComResetConnection = 31,
  kComStmtBulkExecute = 0xfa,
};

std::string DatabaseName(std::string_view name) {
  return name.size() <= kMaxDatabaseBytes ? std::string(name) : std::string();
}

}  // namespace

std::string MysqlStatementName(std::uint32_t id) {
  return std::to_string(id);
}

std::optional<Bytes> MysqlPackets::Take(Bytes& input, std::size_t keep) {
  while (true) {
    if (body_.active()) {
      const auto body = body_.Take(input);
      if (body && !continues_) {
        continues_ = size_ == kMaxPacketBytes;
        return body;
      }
      if (body) {
        continues_ = size_of_part_ == kMaxPacketBytes;
      } else if (input.empty()) {
        return std::nullopt;
      }
      continue;
    }
    if (!head_.Take(input, 4)) {
      return std::nullopt;
    }
    size_of_part_ = static_cast<std::uint32_t>(FieldReader(head_.bytes()).LittleEndian(3));
    head_.Clear();
    if (!continues_) {
      size_ = size_of_part_;
    }
    body_.Begin(size_of_part_, continues_ ? 0 : keep);
  }
}

void MysqlTap::FollowClient(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    const std::size_t keep = phase_ == Phase::kCommands ? kKeepOfCommand : kKeepOfLogin;
    const auto body = from_client_.Take(bytes, sends_file_ ? 0 : keep);
    if (!body) {
      return;
    }
    switch (phase_) {
      case Phase::kGreeting:
        End(TapEnd::kUnexpected);
        break;
      case Phase::kLogin:
        OnLogin(*body);
        break;
      case Phase::kLoggingIn:
        break;
      case Phase::kCommands:
        if (sends_file_) {
          sends_file_ = from_client_.size() > 0;
        } else if (!changes_user_) {
          OnCommand(*body);
        }
        break;
    }
  }
}

void MysqlTap::FollowServer(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    const auto body =
        from_server_.Take(bytes, phase_ == Phase::kGreeting ? kKeepOfGreeting : kKeepOfReply);
    if (!body) {
      return;
    }
    switch (phase_) {
      case Phase::kGreeting:
        OnGreeting(*body);
        break;
      case Phase::kLogin:
        End(TapEnd::kUnexpected);
        break;
      case Phase::kLoggingIn:
        OnLoginReply(*body);
        break;
      case Phase::kCommands:
        OnReply(*body);
        break;
    }
  }
}

// HandshakeV10: version, server's version, thread, half of a challenge, capabilities, character
// set, status, more capabilities, length of the challenge, and MariaDB's own capabilities.
void MysqlTap::OnGreeting(Bytes body) {
  FieldReader reader(body);
  const std::uint64_t version = reader.LittleEndian(1);
  if (version == mysql::kErr) {
    End(TapEnd::kRefused);
    return;
  }
  if (version != 10) {
    End(reader.ok() ? TapEnd::kUnsupported : TapEnd::kMalformed);
    return;
  }
  const std::string_view server = reader.CString();
  (void)reader.Take(4 + 8 + 1);
  server_capabilities_ = reader.LittleEndian(2);
  (void)reader.Take(1 + 2);
  server_capabilities_ |= reader.LittleEndian(2) << 16U;
  (void)reader.Take(1 + 6);
  const std::uint64_t own = reader.LittleEndian(4);
  if (!reader.ok()) {
    End(TapEnd::kMalformed);
    return;
  }
  if (server.contains("MariaDB")) {
    system_ = "mariadb";
  }
  if ((server_capabilities_ & mysql::kLongPassword) == 0) {
    server_capabilities_ |= own << 32U;
  }
  phase_ = Phase::kLogin;
}

// HandshakeResponse41, or the request for TLS that stands before it.
void MysqlTap::OnLogin(Bytes body) {
  FieldReader reader(body);
  std::uint64_t asked = reader.LittleEndian(4);
  (void)reader.Take(4 + 1 + 19);
  const std::uint64_t own = reader.LittleEndian(4);
  if ((asked & mysql::kProtocol41) == 0) {
    End(TapEnd::kUnsupported);
    return;
  }
  if ((asked & mysql::kSsl) != 0) {
    End(TapEnd::kTls);
    return;
  }
  if (!reader.ok()) {
    End(TapEnd::kMalformed);
    return;
  }
  if ((asked & mysql::kLongPassword) == 0) {
    asked |= own << 32U;
  }
  capabilities_ = asked & server_capabilities_;
  if (Has(mysql::kCompress) || Has(mysql::kZstd)) {
    End(TapEnd::kCompression);
    return;
  }
  if (Has(mysql::kOptionalMetadata)) {
    End(TapEnd::kUnsupported);
    return;
  }
  TakeLoginDatabase(reader);
  phase_ = Phase::kLoggingIn;
}

// Behind the user's name and the answer to the challenge.
void MysqlTap::TakeLoginDatabase(FieldReader reader) {
  (void)reader.CString();
  if (Has(mysql::kPluginAuthLenenc)) {
    (void)reader.Take(TakeLenenc(reader).value_or(0));
  } else if (Has(mysql::kSecureConnection)) {
    (void)reader.Take(reader.LittleEndian(1));
  } else {
    (void)reader.CString();
  }
  if (Has(mysql::kConnectWithDb)) {
    const std::string_view name = reader.CString();
    database_ = reader.ok() ? DatabaseName(name) : std::string();
  }
}

void MysqlTap::Push(Kind kind, const StatementPtr& statement) {
  observe::DatabaseCall call{.system = system_};
  if (statement != nullptr) {
    call.operation = statement->operation;
    call.collection = statement->operation == "USE" ? std::string() : statement->collection;
    call.summary = statement->text;
  }
  call.name_space = database_;
  if (queue().PushCommand(kind, std::move(call)) == nullptr) {
    End(TapEnd::kLimit);
  }
}

void MysqlTap::PushOther(Kind kind) {
  if (queue().PushOther(kind, /*merges=*/false) == nullptr) {
    End(TapEnd::kLimit);
  }
}

// One case a command. NOLINTNEXTLINE(readability-function-size)
void MysqlTap::OnCommand(Bytes body) {
  FieldReader reader(body);
  const auto command = static_cast<std::uint8_t>(reader.LittleEndian(1));
  if (!reader.ok()) {
    End(TapEnd::kMalformed);
    return;
  }
  if (OnStatementCommand(command, reader)) {
    return;
  }
  switch (command) {
    case kComQuit:
      return;
    case kComQuery:
      OnQuery(reader.rest());
      return;
    case kComInitDb: {
      static const StatementPtr kUseStatement = std::make_shared<const SqlSummary>(
          SqlSummary{.operation = "USE", .collection = {}, .text = "USE"});
      next_database_ = DatabaseName(AsText(reader.rest()));
      Push(kUse, kUseStatement);
      return;
    }
    case kComChangeUser:
      OnChangeUser(reader);
      return;
    case kComFieldList:
      PushOther(kFields);
      return;
    case kComProcessInfo:
      PushOther(kResults);
      return;
    case kComCreateDb:
    case kComDropDb:
    case kComRefresh:
    case kComShutdown:
    case kComStatistics:
    case kComProcessKill:
    case kComDebug:
    case kComPing:
    case kComSetOption:
    case kComResetConnection:
      PushOther(kSimple);
      return;
    case kComBinlogDump:
    case kComBinlogDumpGtid:
    case kComTableDump:
    case kComRegisterSlave:
      End(TapEnd::kReplication);
      return;
    default:
      End(TapEnd::kUnsupported);
      return;
  }
}

// False if it is none of a prepared statement.
bool MysqlTap::OnStatementCommand(std::uint8_t command, FieldReader& reader) {
  constexpr std::uint32_t kLastPrepared = 0xffffffff;  // MariaDB: the one prepared just before
  switch (command) {
    case kComStmtPrepare: {
      const bool is_whole = from_client_.size() <= 1 + reader.rest().size();
      last_prepared_ = std::make_shared<const SqlSummary>(
          SummariseSql(AsText(reader.rest()), SqlDialect::kMysql, is_whole));
      preparing_.push_back(preparing_.size() < kMaxPreparing ? last_prepared_ : nullptr);
      Push(kPrepare, last_prepared_);
      return true;
    }
    case kComStmtExecute:
    case kComStmtBulkExecute:
    case kComStmtFetch: {
      const auto id = static_cast<std::uint32_t>(reader.LittleEndian(4));
      const StatementPtr statement =
          id == kLastPrepared ? last_prepared_ : statements_.Find(MysqlStatementName(id));
      Push(command == kComStmtFetch ? kFetch : kResults, statement);
      return true;
    }
    case kComStmtClose:
      statements_.Erase(MysqlStatementName(static_cast<std::uint32_t>(reader.LittleEndian(4))));
      return true;
    case kComStmtSendLongData:
      return true;  // not answered
    case kComStmtReset:
      PushOther(kSimple);
      return true;
    default:
      return false;
  }
}

// With query attributes, their number and the number of sets stand before the text; where there
// are some, the text is behind their values and is not looked for.
void MysqlTap::OnQuery(Bytes body) {
  FieldReader reader(body);
  StatementPtr statement;
  bool is_readable = true;
  if (Has(mysql::kQueryAttributes)) {
    const auto attributes = TakeLenenc(reader);
    (void)TakeLenenc(reader);
    is_readable = reader.ok() && attributes == 0;
  }
  if (is_readable) {
    const bool is_whole = from_client_.size() <= 1 + body.size();
    statement = std::make_shared<const SqlSummary>(
        SummariseSql(AsText(reader.rest()), SqlDialect::kMysql, is_whole));
  }
  const bool is_use =
      statement != nullptr && statement->operation == "USE" && statement->text == "USE";
  if (is_use) {
    next_database_ = DatabaseName(statement->collection);
  }
  Push(is_use ? kUse : kResults, statement);
}

void MysqlTap::OnChangeUser(FieldReader reader) {
  (void)reader.CString();
  (void)reader.Take(reader.LittleEndian(1));
  const std::string_view name = reader.CString();
  next_database_ = reader.ok() ? DatabaseName(name) : std::string();
  statements_.Clear();
  changes_user_ = true;
  PushOther(kLogin);
}

}  // namespace weir::database
