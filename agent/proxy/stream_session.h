#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/http/detect.h"
#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"
#include "agent/policy/decide.h"
#include "agent/proxy/context.h"
#include "agent/proxy/database_observer.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/http_relay.h"
#include "agent/proxy/leg.h"
#include "agent/proxy/request_gate.h"
#include "agent/proxy/session.h"
#include "agent/proxy/socket_leg.h"
#include "agent/seam/causality.h"

namespace weir::proxy {

// Where a stream session stands with the protocol, which decides what happens to bytes.
//
//   phase        client bytes                  server bytes             ends in
//   kDetecting   kept, looked at               the server speaks first  kOpaque, kHttp
//   kOpaque      passed on                     passed on                kDone
//   kHttp        through the relay             through the relay        kOpaque (Upgrade),
//                                                                       kLingering, kDone
//   kLingering   dropped: the answer to a bad request or the end of an  kDone
//                idle connection must not be lost by the RST that a
//                close with unread bytes makes
//   kDone        dropped, until the turn ends                           -
enum class StreamPhase : std::uint8_t { kDetecting, kOpaque, kHttp, kLingering, kDone };

// StreamSession joins two legs: `downstream` is who opened the connection, `upstream` whom
// it wants. It detects the protocol, passes bytes with back-pressure, half-close and reset
// both ways, and makes the records at its end, exactly once. How the upstream is found is
// the derived classes' part. Client bytes wait here until the upstream is open.
class StreamSession : public Session,
                      protected LegOwner,
                      private ExchangeHandler,
                      private RequestGate {
 public:
  ~StreamSession() override;
  void Abort(observe::Reason reason) noexcept override;
  [[nodiscard]] bool Involves(model::LocalId id) const override;
  void OnSnapshot() noexcept final;
  void OnDrain() noexcept override;
  void OnDrainEnd() noexcept override;

 protected:
  StreamSession(WorkerContext& context, model::LocalId owner, observe::Direction direction);

  // The downstream leg. Reading begins with StartReading, after detection was set up.
  void UseDownstream(std::unique_ptr<Leg> leg) { down_ = std::move(leg); }
  // A socket that was accepted.
  void UseDownstreamSocket(base::UniqueFd fd);
  // Sets detection up for a destination of `hint`; a server that is known or said to speak
  // first skips it.
  void SetDetection(model::ProtocolHint hint);
  // Starts to read from a downstream socket; false (session failed) if that is impossible.
  bool StartReading();
  // Bytes that were read from the downstream before this session was made.
  void TakeEarlyBytes(io::Bytes bytes);

  // Connects a socket as upstream leg. What is known at once, a failure or that it is open,
  // is reported as it would be later, but from within this call.
  void ConnectUpstream(const seam::ConnectRequest& request, base::Nanoseconds timeout);
  // The connection was opened by the owner's application: `accepted`, as the agent's socket
  // sees it, is what its requests' parents are asked for by.
  void SetOpenedByApplication(const base::ConnectionTuple& accepted) { opened_ = accepted; }
  // What is known of the parent of what the application has just sent on it, whatever the
  // protocol: empty if nothing is, or the workload does not want to know.
  std::optional<seam::ParentHint> FindParent();

  // The way to the application of `destination` itself, keeping `source` as its peer's
  // address; tries again from another port when nothing answers.
  void ConnectDelivery(model::LocalId destination, const base::Endpoint& endpoint,
                       const base::IpAddress& source);
  // Replaces one that failed, too.
  void UseUpstream(std::unique_ptr<Leg> leg);
  void ArmUpstreamTimer(base::Nanoseconds delay) { upstream_timer_.Arm(delay); }
  void CancelUpstreamTimer() { upstream_timer_.Cancel(); }
  // Nothing comes of it: the downstream is rejected, the record made.
  void Fail(observe::Reason reason);

  // Asks the policy of server_side() whether the connection may come in: OnAdmitted if so.
  // A denied one is refused when it is no HTTP; the requests of one that is are answered.
  void Admit();
  // The way to the application may be opened. May come late, when the rules ask for what the
  // first bytes say.
  virtual void OnAdmitted() noexcept {}
  // What the policy of `by` says of this connection to `destination`.
  [[nodiscard]] policy::Verdict Judge(const model::Snapshot& by,
                                      const model::LocalWorkload& destination) const;
  // Whether the verdict lets the connection in; its record names the rule either way.
  bool Permits(const policy::Verdict& verdict);

  // The upstream is open; called before bytes are passed.
  virtual void OnUpstreamOpen() noexcept {}
  // It could not be opened, or broke before that.
  virtual void OnUpstreamFailed(observe::Reason reason) noexcept { Fail(reason); }
  // What ArmUpstreamTimer was for.
  virtual void OnUpstreamTimer() noexcept;
  // A newer snapshot came. True if this session waited for one: it has gone on by then.
  virtual bool OnAwaitedSnapshot() noexcept { return false; }
  // Why a session may not go on as it does under the newer snapshot `now`: somebody else is
  // at the other end, or the policy has changed. kNone if it may.
  [[nodiscard]] virtual observe::Reason Contradiction(const model::Snapshot& now) const = 0;
  // How a downstream without an upstream is turned away.
  virtual void RejectDownstream(observe::Reason reason) { down_->Reset(reason); }

  [[nodiscard]] bool done() const { return phase_ == StreamPhase::kDone; }
  [[nodiscard]] WorkerContext& context() { return context_; }
  [[nodiscard]] const WorkerContext& context() const { return context_; }
  [[nodiscard]] LegOwner& leg_owner() { return *this; }
  [[nodiscard]] const model::SnapshotPtr& snapshot() const { return snapshot_; }
  void RefreshSnapshot() { snapshot_ = context_.snapshot; }
  [[nodiscard]] observe::Flow& flow() { return flow_; }
  [[nodiscard]] const observe::Flow& flow() const { return flow_; }
  [[nodiscard]] Leg* downstream() { return down_.get(); }
  [[nodiscard]] Leg* upstream() { return up_.get(); }
  [[nodiscard]] const Leg* downstream() const { return down_.get(); }
  [[nodiscard]] const Leg* upstream() const { return up_.get(); }
  // Whose records these are: the side that this node plays. A same-node join has both.
  void SetClientSide(std::shared_ptr<const model::LocalWorkload> local);
  void SetServerSide(std::shared_ptr<const model::LocalWorkload> local);
  [[nodiscard]] const model::LocalWorkload* client_side() const { return client_side_.get(); }
  [[nodiscard]] const model::LocalWorkload* server_side() const { return server_side_.get(); }
  // Since the connection was accepted.
  [[nodiscard]] base::Nanoseconds Elapsed() const { return context_.loop.now() - start_; }

 private:
  // What is kept for each direction, by where its bytes come from.
  struct Half {
    std::size_t owed = 0;  // bytes read whose credit was not returned
    bool paused = false;
    bool ended = false;
  };

  void OnLegOpen(Leg& leg) noexcept final;
  void OnLegData(Leg& leg, io::Bytes bytes) noexcept final;
  void OnLegEnd(Leg& leg) noexcept final;
  void OnLegFlushed(Leg& leg, std::size_t count) noexcept final;
  void OnLegFailed(Leg& leg, observe::Reason reason) noexcept final;
  void OnExchange(observe::ExchangeResult&& exchange) noexcept final;
  std::optional<seam::ParentHint> TakeParentHint() noexcept final;
  void OnRequestStart(const observe::ExchangeResult& exchange, std::size_t open) noexcept final;
  void OnAllAnswered(bool broken_off) noexcept final;

  // admission.cc
  void Deny();
  [[nodiscard]] bool AsksForServerNames() const;
  [[nodiscard]] bool StaysAdmitted(http::Detected detected);
  // A newer snapshot denies what was let in.
  void NoteLoss();
  bool AdmitsRequest(const RequestFacts& request, observe::ExchangeResult& exchange) noexcept final;

  // detection.cc
  void OnClientBytes(io::Bytes bytes);
  void Classify(http::DetectMode mode);
  bool ClassifyTls(http::DetectMode mode);
  void Decide(http::Detected detected);
  void BecomeOpaque();
  void StartHttp1();
  void StartHttp2();
  [[nodiscard]] TracerOptions TraceOptions() const;
  [[nodiscard]] http::H2RelayLimits Http2Limits() const;
  void UpgradeToHttp2(io::Bytes rest);
  void StartDatabase(database::System system);
  void ObserveClient(io::Bytes bytes);
  void ObserveServer(io::Bytes bytes);
  void LookAtDatabaseEnd();
  void OnServerSpeaksFirst(io::Bytes bytes);
  void OnClientTimer();

  // stream_session.cc
  std::uint32_t AcquireHandle();
  // Once both the protocol and the delivery are known, before anything is written.
  void TellProtocol();
  // What is delivered from now on are no requests that can be told apart.
  void StopTelling();
  [[nodiscard]] bool tells_requests() const {
    return delivery_.request_handle != 0 && !stopped_telling_;
  }
  void FlushHeld();
  void PassToUpstream(io::Bytes bytes);
  void PassToDownstream(io::Bytes bytes);
  void Deliver(const HttpRelay::Result& result, bool from_client);
  void EndOfClient();
  void EndOfServer();
  [[nodiscard]] bool TakesClientBytes() const;
  void Balance();
  void MaybeEnd();
  void WatchHeaders();
  void CloseAfterAnswer(observe::Reason reason);
  // Both ends are told in order that nothing more comes.
  void CloseInOrder(observe::Reason reason);
  void Linger(observe::Reason reason);
  [[nodiscard]] bool IdleHttp() const;
  void CloseIfUnanswerable();
  void EndIfDrained();

  // finish.cc
  void End(observe::Reason reason);
  void MakeRecords(observe::Reason reason);
  void ReadUnserved();
  void AddWait(observe::Timing& timing) const;
  [[nodiscard]] observe::Flow ServerView() const;
  void AddConnectionSpan(observe::Record& record);

  WorkerContext& context_;
  model::SnapshotPtr snapshot_;
  std::shared_ptr<const model::LocalWorkload> client_side_;
  std::shared_ptr<const model::LocalWorkload> server_side_;
  std::unique_ptr<Leg> down_;
  std::unique_ptr<Leg> up_;
  std::unique_ptr<Leg> replaced_up_;  // may be in the call that led to its replacement
  std::unique_ptr<HttpRelay> relay_;
  std::unique_ptr<DatabaseObserver> database_;  // of a connection that a workload of here opened
  io::ByteBuffer held_;         // client bytes that wait for a decision or for the upstream
  io::ByteBuffer server_held_;  // SETTINGS of a server that speaks first, while detecting
  io::Timer client_timer_;      // detection, headers, lingering
  io::Timer upstream_timer_;    // whatever the upstream waits for
  base::MonotonicTime start_;
  base::MonotonicTime first_client_byte_{};
  base::MonotonicTime upstream_opened_{};
  base::MonotonicTime header_began_{};
  seam::ConnectRequest delivery_;  // for another try; its handle is this session's
  std::optional<base::ConnectionTuple> opened_;
  Half from_client_;
  Half from_server_;
  std::uint64_t bytes_at_drain_ = 0;  // both ways, when the drain began
  std::uint32_t exchanges_ = 0;
  model::ProtocolHint hint_ = model::ProtocolHint::kNone;
  StreamPhase phase_ = StreamPhase::kDetecting;
  std::uint8_t delivery_tries_ = 0;
  bool up_open_ = false;
  bool judged_ = false;  // by Admit
  bool denied_ = false;  // and requests are answered without an application
  bool client_end_passed_ = false;
  bool switched_ = false;  // opaque behind an Upgrade or CONNECT, or commands that are followed
  bool stopped_telling_ = false;
  observe::Flow flow_;
};

}  // namespace weir::proxy
