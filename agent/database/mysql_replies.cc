// MysqlTap: what the server answers.
#include <optional>
#include <string>
#include <utility>

#include "agent/database/mysql.h"
#include "agent/database/mysql_flags.h"
#include "agent/database/mysql_lenenc.h"

namespace weir::database {
namespace {

std::uint8_t FirstOf(Bytes body) {
  return body.empty() ? mysql::kOk : body.front();
}

struct OkFacts {
  std::uint64_t affected = 0;
  std::uint16_t status = 0;
};

// OK_Packet, also where it stands in an EOF's place.
std::optional<OkFacts> ParseOk(Bytes body) {
  FieldReader reader(body);
  (void)reader.Take(1);
  OkFacts facts;
  facts.affected = TakeLenenc(reader).value_or(0);
  (void)TakeLenenc(reader);  // the last id that was made
  facts.status = static_cast<std::uint16_t>(reader.LittleEndian(2));
  return reader.ok() ? std::optional(facts) : std::nullopt;
}

// EOF_Packet: warnings and status.
std::optional<std::uint16_t> ParseEof(Bytes body) {
  FieldReader reader(body);
  (void)reader.Take(1 + 2);
  const auto status = static_cast<std::uint16_t>(reader.LittleEndian(2));
  return reader.ok() ? std::optional(status) : std::nullopt;
}

}  // namespace

void MysqlTap::OnLoginReply(Bytes body) {
  switch (FirstOf(body)) {
    case mysql::kOk:
      phase_ = Phase::kCommands;
      return;
    case mysql::kErr:
      End(TapEnd::kRefused);
      return;
    case mysql::kEof:       // another way to prove oneself
    case mysql::kMoreAuth:  // more of this one
    case mysql::kNextAuth:  // a further one
      return;
    default:
      End(TapEnd::kUnexpected);
      return;
  }
}

void MysqlTap::OnReply(Bytes body) {
  const bool is_error = FirstOf(body) == mysql::kErr;
  if (queue().empty()) {
    if (!is_error) {  // a server may say why it closes an idle connection
      End(TapEnd::kUnexpected);
    }
    return;
  }
  if (is_error) {
    OnError(body);
    return;
  }
  switch (step_) {
    case MysqlStep::kFirst:
      OnFirst(body);
      return;
    case MysqlStep::kDefinitions:
      OnDefinition();
      return;
    case MysqlStep::kDefinitionsEnd:
      OnDefinitionsEnd(body);
      return;
    case MysqlStep::kRows:
      OnRow(body);
      return;
  }
}

void MysqlTap::OnError(Bytes body) {
  FieldReader reader(body);
  (void)reader.Take(1);
  const auto number = static_cast<std::uint16_t>(reader.LittleEndian(2));
  if (number == mysql::kProgress && reader.ok()) {
    return;
  }
  if (auto* call = queue().front().call.get(); call != nullptr) {
    call->is_error = true;
    call->status = reader.ok() ? std::to_string(number) : std::string();
  }
  if (FrontIs(kPrepare) && !preparing_.empty()) {
    preparing_.pop_front();
  }
  EndCommand();
}

void MysqlTap::EndCommand() {
  step_ = MysqlStep::kFirst;
  sends_file_ = false;
  changes_user_ = changes_user_ && !FrontIs(kLogin);
  queue().EndFront();
}

void MysqlTap::OnFirst(Bytes body) {
  switch (static_cast<Kind>(queue().front().kind)) {
    case kSimple:
      EndCommand();
      return;
    case kUse:
      OnOk(body);
      return;
    case kLogin:
      if (FirstOf(body) == mysql::kOk) {
        database_ = next_database_;
        EndCommand();
      }
      return;
    case kResults:
      if (FirstOf(body) == mysql::kOk) {
        OnOk(body);
      } else if (FirstOf(body) == mysql::kInfile) {
        sends_file_ = true;
      } else {
        OnColumnCount(body);
      }
      return;
    case kPrepare:
      OnPrepared(body);
      return;
    case kFields:
    case kFetch:
      OnRow(body);
      return;
  }
}

void MysqlTap::OnOk(Bytes body) {
  const auto facts = ParseOk(body);
  if (!facts || FirstOf(body) != mysql::kOk) {
    End(TapEnd::kMalformed);
    return;
  }
  if (FrontIs(kUse)) {
    database_ = next_database_;
  }
  if (auto* call = queue().front().call.get(); call != nullptr && FrontIs(kResults)) {
    constexpr std::uint64_t kMost = 1ULL << 48U;
    const std::int64_t before = call->affected_rows < 0 ? 0 : call->affected_rows;
    if (facts->affected <= kMost) {
      call->affected_rows = before + static_cast<std::int64_t>(facts->affected);
    }
  }
  EndResult(facts->status);
}

void MysqlTap::EndResult(std::uint16_t status) {
  if ((status & mysql::kMoreResults) != 0 && FrontIs(kResults)) {
    step_ = MysqlStep::kFirst;
    return;
  }
  EndCommand();
}

void MysqlTap::OnColumnCount(Bytes body) {
  FieldReader reader(body);
  const auto columns = TakeLenenc(reader);
  if (!columns || *columns == 0 || *columns > 0xffff) {
    End(TapEnd::kMalformed);
    return;
  }
  // Behind the number MariaDB may say that the client knows the definitions.
  const bool is_cached =
      Has(mysql::kCacheMetadata) && reader.rest().size() == 1 && reader.rest().front() == 0;
  definitions_ = is_cached ? 0 : *columns;
  more_definitions_ = 0;
  if (auto* call = queue().front().call.get(); call != nullptr && call->returned_rows < 0) {
    call->returned_rows = 0;
  }
  if (definitions_ > 0) {
    step_ = MysqlStep::kDefinitions;
  } else {
    step_ = Has(mysql::kDeprecateEof) ? MysqlStep::kRows : MysqlStep::kDefinitionsEnd;
  }
}

// COM_STMT_PREPARE_OK: id, columns, parameters; their definitions follow, parameters first.
void MysqlTap::OnPrepared(Bytes body) {
  FieldReader reader(body);
  const std::uint64_t first = reader.LittleEndian(1);
  const auto id = static_cast<std::uint32_t>(reader.LittleEndian(4));
  const std::uint64_t columns = reader.LittleEndian(2);
  const std::uint64_t parameters = reader.LittleEndian(2);
  if (first != mysql::kOk || !reader.ok() || preparing_.empty()) {
    End(TapEnd::kMalformed);
    return;
  }
  statements_.Set(MysqlStatementName(id), std::move(preparing_.front()));
  preparing_.pop_front();
  definitions_ = parameters > 0 ? parameters : columns;
  more_definitions_ = parameters > 0 ? columns : 0;
  if (definitions_ > 0) {
    step_ = MysqlStep::kDefinitions;
  } else {
    AfterDefinitions();
  }
}

void MysqlTap::OnDefinition() {
  if (--definitions_ > 0) {
    return;
  }
  if (Has(mysql::kDeprecateEof)) {
    AfterDefinitions();
  } else {
    step_ = MysqlStep::kDefinitionsEnd;
  }
}

void MysqlTap::OnDefinitionsEnd(Bytes body) {
  const auto status = ParseEof(body);
  if (FirstOf(body) != mysql::kEof || !status) {
    End(TapEnd::kUnexpected);
  } else if ((*status & mysql::kCursorExists) != 0 && FrontIs(kResults)) {
    EndCommand();  // its rows are fetched
  } else {
    AfterDefinitions();
  }
}

void MysqlTap::AfterDefinitions() {
  if (FrontIs(kResults)) {
    step_ = MysqlStep::kRows;
    return;
  }
  if (more_definitions_ > 0) {
    definitions_ = std::exchange(more_definitions_, 0);
    step_ = MysqlStep::kDefinitions;
    return;
  }
  step_ = MysqlStep::kFirst;
  queue().DropFront();  // prepared
}

// A row may begin with the same byte, but only if it is very long.
bool MysqlTap::EndsRows(Bytes body) const {
  constexpr std::uint32_t kLongestEof = 8;
  const std::uint32_t longest =
      Has(mysql::kDeprecateEof) ? MysqlPackets::kMaxPacketBytes - 1 : kLongestEof;
  return FirstOf(body) == mysql::kEof && !body.empty() && from_server_.size() <= longest;
}

void MysqlTap::OnRow(Bytes body) {
  if (!EndsRows(body)) {
    if (auto* call = queue().front().call.get(); call != nullptr) {
      call->returned_rows = call->returned_rows < 0 ? 1 : call->returned_rows + 1;
    }
    return;
  }
  std::optional<std::uint16_t> status;
  if (Has(mysql::kDeprecateEof) && from_server_.size() > 5) {
    const auto facts = ParseOk(body);
    status = facts ? std::optional(facts->status) : std::nullopt;
  } else {
    status = ParseEof(body);
  }
  if (!status) {
    End(TapEnd::kMalformed);
    return;
  }
  EndResult(*status);
}

}  // namespace weir::database
