#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "agent/database/body_reader.h"
#include "agent/database/statement_table.h"
#include "agent/database/tap.h"

namespace weir::database {

// How a prepared statement is called in a StatementTable.
std::string MysqlStatementName(std::uint32_t id);

// One direction of MySQL's packets: a length of three bytes, a sequence number, a payload that
// goes on in the next packet if it has the greatest length.
class MysqlPackets {
 public:
  static constexpr std::uint32_t kMaxPacketBytes = 0xffffff;

  // Takes from the front of `input` up to the next payload's kept part, `keep` bytes of it at
  // most. None: more must come.
  std::optional<Bytes> Take(Bytes& input, std::size_t keep);
  // Of the payload that was taken last: its length, or kMaxPacketBytes if it is longer.
  [[nodiscard]] std::uint32_t size() const { return size_; }

 private:
  HeadReader<4> head_;
  BodyReader body_;
  std::uint32_t size_ = 0;
  std::uint32_t size_of_part_ = 0;
  bool continues_ = false;  // the packet in hand is a further part of a payload
};

// What of the answer to the oldest command is still to come.
enum class MysqlStep : std::uint8_t {
  kFirst,           // OK, ERR, the number of columns, or the wish for a file
  kDefinitions,     // of columns, or of a statement's parameters
  kDefinitionsEnd,  // an EOF behind them, in older protocols
  kRows
};

// MysqlTap follows MySQL's protocol 4.1, as MySQL and MariaDB speak it. A COM_QUERY is one
// command with all its results; an execution of a prepared statement is one; a preparation only
// if it fails. LOCAL INFILE, cursors, results without EOF packets and MariaDB's bulk execution
// and cached metadata are understood.
class MysqlTap final : public Tap {
 public:
  static constexpr std::size_t kStatementBytes = 32U << 10U;

  explicit MysqlTap(CommandHandler& handler) : Tap(handler), statements_(kStatementBytes) {}
  [[nodiscard]] std::size_t kept_bytes() const override { return statements_.bytes(); }

 private:
  //   kGreeting   the server's first packet is to come
  //   kLogin      the client's answer to it
  //   kLoggingIn  whatever the two say to each other, to the server's OK or ERR
  //   kCommands   a packet of the client is a command, unless it is a part of a file
  enum class Phase : std::uint8_t { kGreeting, kLogin, kLoggingIn, kCommands };
  // How a command is answered.
  enum Kind : std::uint8_t {
    kSimple,   // one packet
    kUse,      // the same; its OK changes the database
    kLogin,    // another user: like the login
    kResults,  // OK, or results one after the other
    kPrepare,
    kFields,  // definitions to an EOF
    kFetch,   // rows to an EOF
  };

  void FollowClient(Bytes bytes) override;
  void FollowServer(Bytes bytes) override;

  void OnGreeting(Bytes body);
  void OnLogin(Bytes body);
  void TakeLoginDatabase(FieldReader reader);
  void OnCommand(Bytes body);
  bool OnStatementCommand(std::uint8_t command, FieldReader& reader);
  void OnQuery(Bytes body);
  void OnChangeUser(FieldReader reader);
  void Push(Kind kind, const StatementPtr& statement);
  void PushOther(Kind kind);

  // mysql_replies.cc
  void OnReply(Bytes body);
  void OnLoginReply(Bytes body);
  void OnFirst(Bytes body);
  void OnPrepared(Bytes body);
  void OnColumnCount(Bytes body);
  void OnDefinition();
  void OnDefinitionsEnd(Bytes body);
  void OnRow(Bytes body);
  void OnOk(Bytes body);
  void OnError(Bytes body);
  void AfterDefinitions();
  void EndResult(std::uint16_t status);
  void EndCommand();
  [[nodiscard]] bool EndsRows(Bytes body) const;
  [[nodiscard]] bool FrontIs(Kind kind) { return queue().front().kind == kind; }
  [[nodiscard]] bool Has(std::uint64_t flag) const { return (capabilities_ & flag) != 0; }

  StatementTable statements_;
  StatementPtr last_prepared_;
  std::deque<StatementPtr> preparing_;  // of each kPrepare that is not answered, in order
  std::string database_;
  std::string next_database_;  // when the oldest kUse or kLogin succeeds
  MysqlPackets from_client_;
  MysqlPackets from_server_;
  std::uint64_t server_capabilities_ = 0;
  std::uint64_t capabilities_ = 0;      // what both ends have
  std::uint64_t definitions_ = 0;       // to come
  std::uint64_t more_definitions_ = 0;  // behind those, of a prepared statement
  std::string_view system_ = "mysql";
  Phase phase_ = Phase::kGreeting;
  MysqlStep step_ = MysqlStep::kFirst;
  bool sends_file_ = false;    // the client answers LOCAL INFILE
  bool changes_user_ = false;  // the two talk as at the login
};

}  // namespace weir::database
