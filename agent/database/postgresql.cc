#include "agent/database/postgresql.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

namespace weir::database {
namespace {

constexpr std::size_t kMaxNameBytes = StatementTable::kMaxNameBytes + 1;  // with its NUL
constexpr std::size_t kKeepOfStartup = 2048;
constexpr std::size_t kKeepOfError = 512;
constexpr std::size_t kKeepOfTag = 64;
// The server's own limit of a message (PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize).
constexpr std::uint32_t kMaxMessageBytes = 1U << 30U;
constexpr std::size_t kMaxDatabaseBytes = 128;
constexpr std::uint8_t kTlsHandshake = 22;  // RFC 8446 section 5.1

StatementPtr Summarise(std::string_view text, bool is_whole) {
  return std::make_shared<const SqlSummary>(SummariseSql(text, SqlDialect::kPostgresql, is_whole));
}

// Text up to a NUL, or all that was kept of it.
std::string_view TextOf(Bytes bytes, bool& is_whole) {
  const std::string_view text = AsText(bytes);
  const std::size_t end = text.find('\0');
  is_whole = end != std::string_view::npos;
  return text.substr(0, end);
}

// SQLSTATE of an ErrorResponse: five digits or capitals.
std::string SqlState(Bytes body) {
  FieldReader reader(body);
  while (reader.ok() && !reader.rest().empty()) {
    const std::uint64_t type = reader.LittleEndian(1);
    const std::string_view value = reader.CString();
    if (type == 'C') {
      const bool is_code = value.size() == 5 && std::ranges::all_of(value, [](char c) {
                             return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
                           });
      return is_code ? std::string(value) : std::string();
    }
  }
  return {};
}

// The number at the end of "INSERT 0 5".
std::int64_t CountOf(std::string_view tag) {
  const std::string_view number = tag.substr(tag.rfind(' ') + 1);
  std::int64_t count = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
  return error == std::errc() && end == number.data() + number.size() && count >= 0 ? count : -1;
}

void AddTo(std::int64_t& sum, std::int64_t count) {
  sum = count < 0 ? sum : std::max<std::int64_t>(sum, 0) + count;
}

// How much of a client's message matters.
std::size_t KeepOfClient(std::uint8_t type) {
  switch (type) {
    case 'Q':
      return kMaxSqlBytes;
    case 'P':
      return kMaxNameBytes + kMaxSqlBytes;
    case 'B':
      return 2 * kMaxNameBytes;
    case 'C':
    case 'E':
      return 1 + kMaxNameBytes;
    default:
      return 0;
  }
}

std::size_t KeepOfServer(std::uint8_t type) {
  return type == 'E' ? kKeepOfError : type == 'C' ? kKeepOfTag : 0;
}

constexpr std::string_view kClientTypes = "BCDEFHPQSXcdfp";
constexpr std::string_view kServerTypes = "123ACDEGHIKNRSTVWZcdnstv";

}  // namespace

void PostgresqlTap::FollowClient(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    if (!client_body_.active() && !ReadClientHead(bytes)) {
      return;
    }
    if (const auto body = client_body_.Take(bytes)) {
      phase_ == Phase::kStartup ? OnStartup(*body) : OnClientMessage(*body);
    } else if (bytes.empty()) {
      return;
    }
  }
}

// False if more must come, or the tap has ended.
bool PostgresqlTap::ReadClientHead(Bytes& input) {
  const bool is_startup = phase_ == Phase::kStartup;
  if (!input.empty() && phase_ == Phase::kAsked) {
    End(TapEnd::kUnexpected);
    return false;
  }
  if (!client_head_.Take(input, is_startup ? 4 : 5)) {
    return false;
  }
  FieldReader head(client_head_.bytes());
  client_head_.Clear();
  client_type_ = static_cast<std::uint8_t>(is_startup ? 0 : head.BigEndian(1));
  const auto length = static_cast<std::uint32_t>(head.BigEndian(4));
  const std::uint32_t least = is_startup ? 8 : 4;
  if (is_startup && length >> 24U == kTlsHandshake) {
    End(TapEnd::kTls);
    return false;
  }
  const bool is_known =
      is_startup || kClientTypes.find(static_cast<char>(client_type_)) != std::string_view::npos;
  if (!is_known || length < least ||
      length > (is_startup ? kMaxPostgresqlStartupBytes : kMaxMessageBytes)) {
    End(TapEnd::kMalformed);
    return false;
  }
  client_body_.Begin(length - 4, is_startup ? kKeepOfStartup : KeepOfClient(client_type_));
  return true;
}

void PostgresqlTap::OnStartup(Bytes body) {
  FieldReader reader(body);
  const auto code = static_cast<std::uint32_t>(reader.BigEndian(4));
  if (code == kPostgresqlSslRequest || code == kPostgresqlGssRequest) {
    phase_ = Phase::kAsked;
    return;
  }
  if (code == kPostgresqlCancelRequest) {
    End(TapEnd::kCancel);
    return;
  }
  if (code >> 16U != 3) {
    End(TapEnd::kUnsupported);
    return;
  }
  phase_ = Phase::kMessages;
  std::string_view user;
  while (reader.ok() && !reader.rest().empty()) {
    const std::string_view name = reader.CString();
    if (name.empty()) {
      break;
    }
    const std::string_view value = reader.CString();
    if (name == "database") {
      database_ = value;
    } else if (name == "user") {
      user = value;
    } else if (name == "replication" && value != "false" && value != "off" && value != "0") {
      End(TapEnd::kReplication);
      return;
    }
  }
  if (database_.empty()) {
    database_ = user;  // what the server takes then
  }
  if (database_.size() > kMaxDatabaseBytes || !reader.ok()) {
    database_.clear();
  }
}

void PostgresqlTap::OnClientMessage(Bytes body) {
  if (client_type_ == 'S') {
    OnSync();
    return;
  }
  in_extended_ = std::string_view("PBDECH").contains(static_cast<char>(client_type_));
  if (skips_to_sync_) {
    return;
  }
  switch (client_type_) {
    case 'Q':
      OnQuery(body);
      return;
    case 'F':
      Push(kQuery, nullptr);
      return;
    case 'P':
      OnParse(body);
      return;
    case 'B':
      OnBind(body);
      return;
    case 'E':
      OnExecute(body);
      return;
    case 'C':
      OnClose(body);
      return;
    case 'c':
    case 'f':
      copies_in_ = false;
      return;
    default:
      return;
  }
}

void PostgresqlTap::Push(Kind kind, const StatementPtr& statement) {
  observe::DatabaseCall call{.system = "postgresql"};
  if (statement != nullptr) {
    call.operation = statement->operation;
    call.collection = statement->collection;
    call.summary = statement->text;
  }
  call.name_space = database_;
  if (queue().PushCommand(kind, std::move(call)) == nullptr) {
    End(TapEnd::kLimit);
  }
}

void PostgresqlTap::OnQuery(Bytes body) {
  bool is_whole = false;
  const std::string_view text = TextOf(body, is_whole);
  Push(kQuery, Summarise(text, is_whole));
}

void PostgresqlTap::OnParse(Bytes body) {
  FieldReader reader(body);
  const std::string_view name = reader.CString();
  bool is_whole = false;
  const std::string_view text = TextOf(reader.rest(), is_whole);
  StatementPtr statement = reader.ok() ? Summarise(text, is_whole) : nullptr;
  if (name.empty()) {
    unnamed_statement_ = statement;
  } else {
    statements_.Set(name, statement);
  }
  last_parsed_ = statement;
  Push(kParse, statement);
}

void PostgresqlTap::OnBind(Bytes body) {
  FieldReader reader(body);
  const std::string_view portal = reader.CString();
  const std::string_view name = reader.CString();
  StatementPtr statement;
  if (reader.ok()) {
    statement = name.empty() ? unnamed_statement_ : statements_.Find(name);
  }
  if (portal.empty()) {
    unnamed_portal_ = std::move(statement);
  } else {
    portals_.Set(portal, std::move(statement));
  }
}

void PostgresqlTap::OnExecute(Bytes body) {
  FieldReader reader(body);
  const std::string_view portal = reader.CString();
  const StatementPtr statement = portal.empty() ? unnamed_portal_ : portals_.Find(portal);
  if (!queue().empty()) {
    CommandQueue::Entry& last = queue().back();
    const bool is_its_parse = last.kind == kParse && last.state == kPlain && last.repeat == 1 &&
                              statement != nullptr && statement == last_parsed_;
    if (is_its_parse) {
      last.state = kExecuted;  // one command of both
      return;
    }
  }
  Push(kExecute, statement);
}

void PostgresqlTap::OnClose(Bytes body) {
  FieldReader reader(body);
  const std::uint64_t what = reader.LittleEndian(1);
  const std::string_view name = reader.CString();
  if (reader.ok()) {
    (what == 'S' ? statements_ : portals_).Erase(name);
  }
}

void PostgresqlTap::OnSync() {
  skips_to_sync_ = false;
  in_extended_ = false;
  if (!copies_in_ && queue().PushOther(kSync, /*merges=*/false) == nullptr) {
    End(TapEnd::kLimit);
  }
}

// ---- the server ----

void PostgresqlTap::FollowServer(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    if (!server_body_.active() && !ReadServerHead(bytes)) {
      return;
    }
    if (const auto body = server_body_.Take(bytes)) {
      OnServerMessage(*body);
    } else if (bytes.empty()) {
      return;
    }
  }
}

// What the server says to a request for encryption is one byte; an old one may answer with an
// ErrorResponse.
void PostgresqlTap::AnswerToAsking(std::uint8_t answer) {
  switch (answer) {
    case 'S':
    case 'G':
      End(TapEnd::kTls);
      return;
    case 'N':
      phase_ = Phase::kStartup;
      return;
    case 'E':
      End(TapEnd::kRefused);
      return;
    default:
      End(TapEnd::kMalformed);
      return;
  }
}

bool PostgresqlTap::ReadServerHead(Bytes& input) {
  if (phase_ != Phase::kMessages) {
    if (input.empty()) {
      return false;
    }
    if (phase_ == Phase::kStartup) {
      End(TapEnd::kUnexpected);
      return false;
    }
    AnswerToAsking(input.front());
    if (input.size() > 1 && end() == TapEnd::kFollowing) {
      End(TapEnd::kUnexpected);  // nothing else comes before the client has spoken
    }
    return false;
  }
  if (!server_head_.Take(input, 5)) {
    return false;
  }
  FieldReader head(server_head_.bytes());
  server_head_.Clear();
  server_type_ = static_cast<std::uint8_t>(head.BigEndian(1));
  const auto length = static_cast<std::uint32_t>(head.BigEndian(4));
  if (kServerTypes.find(static_cast<char>(server_type_)) == std::string_view::npos || length < 4 ||
      length > kMaxMessageBytes) {
    End(TapEnd::kMalformed);
    return false;
  }
  server_body_.Begin(length - 4, KeepOfServer(server_type_));
  return true;
}

void PostgresqlTap::OnServerMessage(Bytes body) {
  switch (server_type_) {
    case 'Z':
      OnReady();
      return;
    case 'C':
    case 'I':
    case 's':
      OnStatementEnd(server_type_ == 'C' ? body : Bytes());
      return;
    case 'D':
      OnRow();
      return;
    case 'E':
      OnError(body);
      return;
    case '1':
      OnParseComplete();
      return;
    case 'G':
      OnCopyIn();
      return;
    case 'W':
      End(TapEnd::kReplication);
      return;
    default:
      return;
  }
}

void PostgresqlTap::OnParseComplete() {
  if (!FrontIs(kParse)) {
    End(TapEnd::kUnexpected);
  } else if (queue().front().state == kExecuted) {
    queue().front().kind = kExecute;
  } else {
    queue().DropFront();
  }
}

void PostgresqlTap::OnRow() {
  if (!FrontIs(kQuery) && !FrontIs(kExecute)) {
    End(TapEnd::kUnexpected);
  } else if (auto* call = queue().front().call.get(); call != nullptr) {
    AddTo(call->returned_rows, 1);
  }
}

// CommandComplete, EmptyQueryResponse, PortalSuspended.
void PostgresqlTap::OnStatementEnd(Bytes tag) {
  if (!FrontIs(kQuery) && !FrontIs(kExecute)) {
    End(TapEnd::kUnexpected);
    return;
  }
  if (auto* call = queue().front().call.get(); call != nullptr && !tag.empty()) {
    FieldReader reader(tag);
    const std::string_view text = reader.CString();
    if (text.starts_with("SELECT") || text.starts_with("FETCH")) {
      AddTo(call->returned_rows, 0);  // they were counted as they came
    } else {
      AddTo(call->affected_rows, CountOf(text));
    }
  }
  copies_in_ = false;
  if (FrontIs(kExecute)) {
    queue().EndFront();
  }
}

// Behind an error of the extended protocol the server ignores everything up to a Sync.
void PostgresqlTap::OnError(Bytes body) {
  if (!ready_) {
    return;  // the client is not let in
  }
  copies_in_ = false;
  const auto note = [&] {
    if (auto* call = queue().front().call.get(); call != nullptr && !call->is_error) {
      call->is_error = true;
      call->status = SqlState(body);
    }
  };
  if (FrontIs(kQuery)) {
    note();
    return;  // a ReadyForQuery follows
  }
  if (queue().empty()) {
    skips_to_sync_ = in_extended_;  // else it is about the connection
    return;
  }
  if (!FrontIs(kSync)) {
    note();
    queue().EndFront();
  }
  while (!queue().empty() && queue().front().kind != kSync) {
    queue().DropFront();
  }
  skips_to_sync_ = queue().empty();
}

// Syncs that were sent before the data are ignored by the server.
void PostgresqlTap::OnCopyIn() {
  if (!FrontIs(kQuery) && !FrontIs(kExecute)) {
    End(TapEnd::kUnexpected);
    return;
  }
  copies_in_ = true;
  if (FrontIs(kExecute)) {
    queue().EraseBehindFront(kSync);
  }
}

void PostgresqlTap::OnReady() {
  if (!ready_) {
    ready_ = true;
    return;
  }
  if (FrontIs(kQuery)) {
    queue().EndFront();
  } else if (FrontIs(kSync)) {
    queue().DropFront();
  } else {
    End(TapEnd::kUnexpected);
  }
}

}  // namespace weir::database
