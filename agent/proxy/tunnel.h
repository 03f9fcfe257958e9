#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/unique_fd.h"
#include "agent/http/tunnel_mux.h"
#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"
#include "agent/proxy/stats.h"
#include "agent/tls/engine.h"

// Tunnels between agents: one TLS connection that carries many CONNECT streams
// (http::TunnelMux), and the stream as a session sees it. Worker thread only.
namespace weir::proxy {

class TunnelConnection;
class TunnelPool;

// How long each step of a tunnel may take, and what it may buffer.
struct TunnelLimits {
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds handshake_timeout{5000};
  std::chrono::milliseconds idle_timeout{60000};   // without a stream; zero: never
  std::chrono::milliseconds ping_interval{30000};  // of silence while streams are open
  std::chrono::milliseconds ping_timeout{10000};   // then the peer is taken for dead
  std::size_t output_limit_bytes = 1U << 20U;      // unsent bytes before Write says "wait"
  // Unsent bytes beyond that limit, of frames that do not wait: then the peer is cut off.
  std::size_t unsent_excess_bytes = 8U << 20U;
  http::TunnelMuxConfig mux;  // role is set by Connect and Accept

  static TunnelLimits From(const model::Limits& limits);
};

// TunnelContext is what the tunnels of one worker share. Outlives them.
struct TunnelContext {
  io::EventLoop& loop;
  http::WindowBudget& budget;
  TunnelCounters& counters;
  TunnelLimits limits;  // of tunnels made from now on

  // The tunnels' own: which of them are to send at the end of this turn, what one has just
  // read, and its plaintext. The buffers are empty between two reads.
  std::vector<TunnelConnection*> to_flush{};
  std::vector<std::uint8_t> received{};
  io::ByteBuffer decrypted{};
};

// TunnelStreamHandler is the session's ear on its stream. No call comes after Reset(),
// after OnRefused or OnReset, or once the TunnelStream is destroyed. Calls may write,
// end, reset and destroy the stream, but not the TunnelConnection.
class TunnelStreamHandler {
 public:
  TunnelStreamHandler() = default;
  TunnelStreamHandler(const TunnelStreamHandler&) = delete;
  TunnelStreamHandler& operator=(const TunnelStreamHandler&) = delete;
  // The far agent answered 2xx: its upstream is connected. Opening side only.
  virtual void OnAccepted() noexcept = 0;
  // No stream came about, for `reason`: no tunnel (TLS, peer, connect), or the far agent
  // answered `status` (0 if it never got that far) and said why. Opening side only.
  virtual void OnRefused(observe::Reason reason, std::uint16_t status,
                         std::string_view detail) noexcept = 0;
  // Bytes from the far side. All of them are the session's now: what its socket does not
  // take at once it keeps, at most a stream window; ReturnCredit as the socket takes them.
  virtual void OnData(io::Bytes bytes) noexcept = 0;
  // The far side half-closed: no more OnData.
  virtual void OnEnd() noexcept = 0;
  // The stream is gone abnormally; the application's connection is to be reset.
  virtual void OnReset(observe::Reason reason) noexcept = 0;
  // Write may take bytes again, after it took fewer than it was given (or the stream has
  // just been opened). Not before.
  virtual void OnWritable() noexcept = 0;

 protected:
  ~TunnelStreamHandler() = default;
};

// TunnelStream is one stream of a tunnel as its session holds it. Destroying it resets
// the stream unless both sides have ended it. Before the tunnel is up (opening side) it
// waits: Write takes nothing and OnWritable follows. Small: no buffer of its own.
class TunnelStream final : private http::TunnelStreamHandler {
 public:
  // The CONNECT request of a stream on the opening side.
  struct Request {
    std::string authority;  // "ip:port" of the original destination
    std::vector<std::pair<std::string, std::string>> headers;  // lower-case names
  };

  explicit TunnelStream(proxy::TunnelStreamHandler& handler) : handler_(&handler) {}
  TunnelStream(const TunnelStream&) = delete;
  TunnelStream& operator=(const TunnelStream&) = delete;
  ~TunnelStream();

  // Hands the stream to another session (or from the acceptor to its session).
  void set_handler(proxy::TunnelStreamHandler& handler) { handler_ = &handler; }

  // Takes as many bytes as credit and the tunnel's output limit allow, from the front;
  // the caller keeps the rest until OnWritable.
  [[nodiscard]] std::size_t Write(io::Bytes bytes);
  // Half-closes, after everything written. No Write afterwards.
  void EndWrite();
  // Ends both directions at once; no call to the handler follows.
  void Reset(http::H2Error code = http::H2Error::kCancel);
  // The session's socket took `count` bytes that OnData brought.
  void ReturnCredit(std::size_t count);

  // Accepting side: exactly one of these answers the CONNECT.
  void Accept();
  void Refuse(observe::Reason reason);

  // True once the request is on its way (opening side) or was received.
  [[nodiscard]] bool opened() const { return id_ != 0; }
  // When that was, on the opening side; zero before.
  [[nodiscard]] base::MonotonicTime opened_at() const { return opened_at_; }
  // Null before the tunnel is chosen and after the stream is gone.
  [[nodiscard]] TunnelConnection* connection() const { return connection_; }

 private:
  friend class TunnelConnection;
  friend class TunnelPool;
  void OnAccepted(std::uint16_t status) noexcept override;
  void OnRefused(std::uint16_t status, const http::H2FieldList& fields) noexcept override;
  void OnData(std::span<const std::uint8_t> bytes) noexcept override;
  void OnEnd() noexcept override;
  void OnReset(const http::TunnelStreamReset& reset) noexcept override;
  void OnWritable() noexcept override;
  // Tells the handler that there will be no stream.
  void Fail(observe::Reason reason, std::uint16_t status, std::string_view detail);
  void Detach();

  TunnelStream() = default;  // accepting side: the handler follows

  proxy::TunnelStreamHandler* handler_ = nullptr;
  TunnelConnection* connection_ = nullptr;
  TunnelStream* next_ = nullptr;  // in the list of the connection's streams
  TunnelStream* previous_ = nullptr;
  TunnelStream* next_waiting_ = nullptr;  // in the list of those that wait for the tunnel
  TunnelStream* previous_waiting_ = nullptr;
  TunnelPool* refused_by_ = nullptr;  // which will say so at the end of the turn
  std::unique_ptr<Request> request_;  // while it could still be sent on another tunnel
  base::MonotonicTime opened_at_{};
  http::TunnelStreamId id_ = 0;
  std::uint8_t attempts_ = 0;
  bool opening_side_ = false;
  bool accepted_ = false;
  bool waits_ = false;       // is in the list of those that wait
  bool end_wanted_ = false;  // EndWrite came while waiting
};

// TunnelOwner decides about tunnels and owns them. Called from within the connection (a
// failure even from within Connect and Accept): it must not destroy it there, but at the
// end of the turn.
class TunnelOwner {
 public:
  TunnelOwner() = default;
  TunnelOwner(const TunnelOwner&) = delete;
  TunnelOwner& operator=(const TunnelOwner&) = delete;
  // TLS and ALPN are done: kNone admits the peer, any other reason closes the tunnel.
  virtual observe::Reason OnTunnelUp(TunnelConnection& connection) noexcept = 0;
  // Accepting side: a CONNECT came. The callee keeps `stream`, gives it its handler and
  // answers now or later; dropping it resets the stream. `request` dies with the call.
  virtual void OnTunnelStream(TunnelConnection& connection, std::unique_ptr<TunnelStream> stream,
                              const http::TunnelRequest& request) noexcept = 0;
  // Opening side: `stream` could not be served here, and the peer has seen nothing of it
  // (draining, refused). True if the callee has put it elsewhere.
  virtual bool OnStreamUnserved(TunnelConnection& connection, TunnelStream& stream) noexcept {
    (void)connection;
    (void)stream;
    return false;
  }
  // The tunnel is closed (kNone: in good order); its streams have been told. The last call.
  virtual void OnTunnelClosed(TunnelConnection& connection, observe::Reason reason,
                              std::string_view detail) noexcept = 0;

 protected:
  ~TunnelOwner() = default;
};

// TunnelConnection is one tunnel: descriptor, TLS engine and stream multiplexer. What a
// loop turn produces is sealed and sent once, at its end. Buffers are freed while idle.
// It does not outlive the certificates of its ends: it drains some time before the first
// one expires (so that new streams get a tunnel with renewed ones) and is closed then.
class TunnelConnection final : private io::EventHandler, private http::TunnelMuxHandler {
 public:
  // Opens a tunnel on `fd`, whose connect() is under way.
  static std::unique_ptr<TunnelConnection> Connect(TunnelContext& context, base::UniqueFd fd,
                                                   std::shared_ptr<const tls::WorkloadTls> workload,
                                                   std::string_view alpn, TunnelOwner& owner);
  // Serves a tunnel on the accepted `fd`; `received` has been read from it already.
  static std::unique_ptr<TunnelConnection> Accept(TunnelContext& context, base::UniqueFd fd,
                                                  std::shared_ptr<const tls::WorkloadTls> workload,
                                                  io::Bytes received, TunnelOwner& owner);
  TunnelConnection(const TunnelConnection&) = delete;
  TunnelConnection& operator=(const TunnelConnection&) = delete;
  ~TunnelConnection();  // streams still there are told kDraining; the owner is not

  // Puts `stream`, which has its request, on this tunnel: at once, or when the tunnel is up
  // or the peer allows another one. False if it is closed or draining.
  bool Open(TunnelStream& stream);

  // Takes no new streams, tells the peer so, and closes when the last stream has ended.
  void Drain();
  // Closes at once: streams are told `reason`, the peer gets GOAWAY and close_notify as far
  // as the socket takes them.
  void Close(observe::Reason reason, std::string_view detail);

  [[nodiscard]] bool up() const { return phase_ == Phase::kUp; }
  [[nodiscard]] bool closed() const { return phase_ == Phase::kClosed; }
  // Whether Open would take a stream.
  [[nodiscard]] bool usable() const;
  // Whether a stream put on it would go out at once.
  [[nodiscard]] bool CanOpen() const;
  // Whether streams wait for its credit just now.
  [[nodiscard]] bool window_bound() const;
  [[nodiscard]] std::size_t stream_count() const;
  [[nodiscard]] std::size_t waiting_count() const { return waiting_count_; }
  // The verified peer; empty before it is up.
  [[nodiscard]] const tls::PeerInfo& peer() const { return engine_->peer(); }
  [[nodiscard]] std::uint16_t tls_version() const { return engine_->version(); }
  [[nodiscard]] std::string_view alpn() const { return engine_->alpn(); }
  [[nodiscard]] const std::shared_ptr<const tls::WorkloadTls>& workload() const {
    return workload_;
  }
  // -1 once closed.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  friend class TunnelStream;
  // kConnecting -> kHandshaking -> kUp -> kClosed; any of them goes to kClosed on failure.
  enum class Phase : std::uint8_t { kConnecting, kHandshaking, kUp, kClosed };

  // Frames go to plaintext_; a full buffer is what stops writers.
  class Output final : public http::TunnelOutput {
   public:
    explicit Output(TunnelConnection& connection) : connection_(connection) {}
    [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t least) override;
    void Commit(std::size_t count) override;
    [[nodiscard]] std::size_t Room() const override;

   private:
    TunnelConnection& connection_;
  };

  TunnelConnection(TunnelContext& context, base::UniqueFd fd,
                   std::shared_ptr<const tls::WorkloadTls> workload, TunnelOwner& owner);
  void OnEvents(std::uint32_t events) noexcept override;
  http::TunnelStreamHandler* OnStreamOpened(http::TunnelStreamId id,
                                            const http::TunnelRequest& request) noexcept override;
  void OnStreamSlot() noexcept override;
  void OnGoAway(const http::TunnelGoAway& goaway) noexcept override;
  void OnConnectionError(http::H2Error code, http::TunnelViolation violation) noexcept override;

  // Waits for the socket; a failure closes.
  void Begin(Phase phase, std::uint32_t events);
  void OnConnected();
  void Read();
  void TakeCiphertext(io::Bytes bytes);
  void OnHandshakeDone();
  void OnTlsEnd();
  // Opens streams that wait, as far as the peer's limit goes.
  void OpenWaiting();
  bool OpenNow(TunnelStream& stream);
  void Enlist(TunnelStream& stream);
  void Delist(TunnelStream& stream);
  // Gives up those that wait: to the owner, or else they are refused.
  void ReleaseWaiting(observe::Reason reason, std::string_view detail);
  void Attach(TunnelStream& stream);
  void DetachAll();
  // What a stream is told: why the tunnel was closed, if that was what ended it.
  [[nodiscard]] observe::Reason ReasonFor(observe::Reason reason) const;
  void ScheduleFlush();
  static void FlushAll(TunnelContext& context);
  void Flush();
  void SealAndSend();
  void UpdateWatch();
  void OnTimer();
  // Keeps last_stream_; whenever streams may have come or gone.
  void NoteStreams();
  // The time until the next thing that OnTimer looks after.
  [[nodiscard]] base::Nanoseconds NextCheck() const;
  [[nodiscard]] base::Nanoseconds IdleTimeout() const;
  // Keeps when the certificates of the two ends, which are known now, will have expired.
  void NoteExpiry();
  // The time until then by the wall clock; not above zero afterwards.
  [[nodiscard]] base::Nanoseconds LifeLeft() const;
  [[nodiscard]] bool expired() const { return up() && LifeLeft() <= base::Nanoseconds(0); }
  [[nodiscard]] bool is_client() const { return mux_config_.role == http::TunnelRole::kClient; }

  TunnelContext& context_;
  TunnelOwner& owner_;
  TunnelLimits limits_;
  http::TunnelMuxConfig mux_config_;
  std::shared_ptr<const tls::WorkloadTls> workload_;
  base::UniqueFd fd_;
  std::unique_ptr<tls::Engine> engine_;
  Output output_;
  std::unique_ptr<http::TunnelMux> mux_;   // from kUp on
  io::ByteBuffer plaintext_;               // frames of this turn
  io::ByteBuffer ciphertext_;              // sealed, not yet sent
  TunnelStream* first_waiting_ = nullptr;  // in the order in which they came
  TunnelStream* last_waiting_ = nullptr;
  std::size_t waiting_count_ = 0;
  TunnelStream* streams_ = nullptr;  // all that point here
  io::Timer timer_;
  io::Watch watch_;
  base::MonotonicTime phase_began_{};
  base::MonotonicTime last_received_{};
  base::MonotonicTime last_taken_{};    // when the socket took bytes, or there were none
  base::MonotonicTime last_stream_{};   // when a stream was last there
  std::int64_t expires_ = 0;            // the first certificate, in seconds since 1970
  base::Nanoseconds retire_before_{0};  // no new streams in the last time before that
  Phase phase_ = Phase::kConnecting;
  observe::Reason close_reason_ = observe::Reason::kNone;
  bool flush_scheduled_ = false;
  bool slot_offered_ = false;
  bool draining_ = false;
  bool heard_ = false;  // anything of the far agent behind the handshake
  bool had_streams_ = false;
};

}  // namespace weir::proxy
