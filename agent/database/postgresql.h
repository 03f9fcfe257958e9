#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/database/body_reader.h"
#include "agent/database/statement_table.h"
#include "agent/database/tap.h"

namespace weir::database {

// Codes in the place of a protocol version (PostgreSQL 17, section 55.7).
inline constexpr std::uint32_t kPostgresqlCancelRequest = 80877102;
inline constexpr std::uint32_t kPostgresqlSslRequest = 80877103;
inline constexpr std::uint32_t kPostgresqlGssRequest = 80877104;
// The server's own limit (MAX_STARTUP_PACKET_LENGTH).
inline constexpr std::uint32_t kMaxPostgresqlStartupBytes = 10000;

// PostgresqlTap follows PostgreSQL's protocol 3. A simple query is one command, whatever number
// of statements it has; an Execute is one; a Parse is one only if it fails and is not executed
// behind it. Statements and portals are remembered by their names.
class PostgresqlTap final : public Tap {
 public:
  static constexpr std::size_t kStatementBytes = 32U << 10U;
  static constexpr std::size_t kPortalBytes = 8U << 10U;

  explicit PostgresqlTap(CommandHandler& handler)
      : Tap(handler), statements_(kStatementBytes), portals_(kPortalBytes) {}
  [[nodiscard]] std::size_t kept_bytes() const override {
    return statements_.bytes() + portals_.bytes();
  }

 private:
  // kStartup: no type byte stands before the messages. kAsked: the server has not said whether
  // what follows is encrypted.
  enum class Phase : std::uint8_t { kStartup, kAsked, kMessages };
  enum Kind : std::uint8_t { kQuery, kParse, kExecute, kSync };
  // Of a kParse: an Execute of the same statement stands directly behind it.
  enum State : std::uint8_t { kPlain, kExecuted };

  void FollowClient(Bytes bytes) override;
  void FollowServer(Bytes bytes) override;

  bool ReadClientHead(Bytes& input);
  bool ReadServerHead(Bytes& input);
  void AnswerToAsking(std::uint8_t answer);

  void OnStartup(Bytes body);
  void OnClientMessage(Bytes body);
  void OnQuery(Bytes body);
  void OnParse(Bytes body);
  void OnBind(Bytes body);
  void OnExecute(Bytes body);
  void OnClose(Bytes body);
  void OnSync();
  void Push(Kind kind, const StatementPtr& statement);

  void OnServerMessage(Bytes body);
  void OnParseComplete();
  void OnStatementEnd(Bytes tag);
  void OnRow();
  void OnError(Bytes body);
  void OnCopyIn();
  void OnReady();
  [[nodiscard]] bool FrontIs(Kind kind) { return !queue().empty() && queue().front().kind == kind; }

  StatementTable statements_;
  StatementTable portals_;
  StatementPtr unnamed_statement_;
  StatementPtr unnamed_portal_;
  StatementPtr last_parsed_;
  std::string database_;
  HeadReader<5> client_head_;
  HeadReader<5> server_head_;
  BodyReader client_body_;
  BodyReader server_body_;
  Phase phase_ = Phase::kStartup;
  std::uint8_t client_type_ = 0;
  std::uint8_t server_type_ = 0;
  bool ready_ = false;          // the server has let the client in
  bool in_extended_ = false;    // the client's last message waits for a Sync
  bool skips_to_sync_ = false;  // the server ignores what comes before the next Sync
  bool copies_in_ = false;      // and while the client sends COPY data, Syncs too
};

}  // namespace weir::database
