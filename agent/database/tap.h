#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "agent/database/bytes.h"
#include "agent/database/command_queue.h"
#include "agent/observe/record.h"

// What database connections say, read beside the data path: a tap is given the bytes of both
// directions after they were passed on. It never changes, delays or asks for anything; what it
// does not understand ends it, and the connection goes on without it.
namespace weir::database {

enum class System : std::uint8_t { kPostgresql, kMysql, kRedis };

// The protocol of flows by that name.
observe::Protocol ProtocolOf(System system);

// Why a tap has ended before its connection.
enum class TapEnd : std::uint8_t {
  kFollowing,     // it has not
  kTls,           // what follows is encrypted
  kCompression,   // what follows is compressed
  kReplication,   // one end streams a log
  kSubscription,  // the server sends on its own: pub/sub, MONITOR
  kNoReplies,     // the client has switched answers off
  kCancel,        // the connection is only there to cancel another one's command
  kRefused,       // the server does not let the client in
  kUnsupported,   // a protocol version or option that is not known here
  kMalformed,     // bytes that the protocol does not allow
  kUnexpected,    // a message that does not belong where it stands
  kLimit,         // more commands without an answer, or deeper replies, than are followed
};
inline constexpr std::size_t kTapEndCount = static_cast<std::size_t>(TapEnd::kLimit) + 1;
std::string_view ToString(TapEnd value);

// Tap follows one connection. Memory of a connection is bounded: see CommandQueue,
// StatementTable and BodyReader. One thread; no descriptor, no clock.
class Tap {
 public:
  explicit Tap(CommandHandler& handler) : queue_(handler) {}
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;
  virtual ~Tap() = default;

  // In the order in which both came. Nothing is done once the tap has ended.
  void OnClientBytes(Bytes bytes) {
    if (end_ == TapEnd::kFollowing) {
      FollowClient(bytes);
    }
  }
  void OnServerBytes(Bytes bytes) {
    if (end_ == TapEnd::kFollowing) {
      FollowServer(bytes);
    }
  }
  // The connection has ended: commands without an answer are reported as they are.
  void Finish() { queue_.EndAll(); }

  [[nodiscard]] TapEnd end() const { return end_; }
  // Bytes of texts that are kept for the commands to come.
  [[nodiscard]] virtual std::size_t kept_bytes() const { return 0; }

 protected:
  virtual void FollowClient(Bytes bytes) = 0;
  virtual void FollowServer(Bytes bytes) = 0;
  // The tap has ended. Commands without an answer are forgotten.
  void End(TapEnd why) { end_ = why; }
  [[nodiscard]] CommandQueue& queue() { return queue_; }

 private:
  CommandQueue queue_;
  TapEnd end_ = TapEnd::kFollowing;
};

// A tap for a new connection of `system`. The handler must outlive it.
std::unique_ptr<Tap> MakeTap(System system, CommandHandler& handler);

}  // namespace weir::database
