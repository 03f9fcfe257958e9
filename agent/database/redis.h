#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/database/resp_reader.h"
#include "agent/database/tap.h"

namespace weir::database {

// `name` in capitals if it is a command of Redis (7.4) or one of its modules' that is known
// here, else empty: a name that anybody can make up is not told. Pure.
std::string RedisCommandName(std::string_view name);

// RedisTap follows RESP2 and RESP3. A command is one; a transaction from its MULTI to its EXEC
// or DISCARD is one, "MULTI" with what it was of if that was always the same. Keys and other
// arguments are not looked at, but for SELECT's index.
class RedisTap final : public Tap {
 public:
  explicit RedisTap(CommandHandler& handler) : Tap(handler) {}

 private:
  enum Kind : std::uint8_t {
    kCommand,
    kSelect,  // its OK changes the database to the entry's number
    kReset,   // and this to the first one
    kMulti,   // the transaction; it ends with its kExec
    kQueued,  // between the two
    kExec,
  };
  // Of a kMulti.
  enum State : std::uint8_t { kAsked, kBegun };

  void FollowClient(Bytes bytes) override;
  void FollowServer(Bytes bytes) override;
  void OnRequest(const RespRequest& request);
  void OnTransactionPart(const std::string& name);
  void OnTransactionReply(const RespReply& reply);
  void OnSelect(std::string_view index);
  void OnReply(const RespReply& reply);
  void Push(Kind kind, const std::string& name);
  void PushOther(Kind kind);
  static void NoteError(const RespReply& reply, observe::DatabaseCall& call);

  RespRequestReader requests_;
  RespReplyReader replies_;
  std::string index_ = "0";  // of the database; empty: not known
  // Of the transaction that the client has open: its call, null if it has failed or is not
  // traced; its commands, and what they all are, empty if they differ.
  observe::DatabaseCall* transaction_ = nullptr;
  std::string batch_operation_;
  std::uint32_t batch_size_ = 0;
  bool in_transaction_ = false;
};

}  // namespace weir::database
