#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/http/flood_guard.h"
#include "agent/http/h2_frame.h"
#include "agent/http/hpack.h"
#include "agent/http/stream_table.h"
#include "agent/http/window.h"

// The multiplexer of a tunnel: HTTP/2 (RFC 9113) reduced to CONNECT streams, either role,
// bytes in and events out. Interoperable with the HBONE form of Istio's ambient mesh.
namespace weir::http {

enum class TunnelRole : std::uint8_t { kClient, kServer };

struct TunnelMuxConfig {
  TunnelRole role = TunnelRole::kClient;
  std::uint32_t max_peer_streams = 16384;             // announced by a server; a client announces 0
  std::uint32_t stream_window_bytes = 256U << 10U;    // at the beginning of a stream
  std::uint32_t max_stream_window_bytes = 4U << 20U;  // to which it may grow
  std::uint32_t tunnel_window_bytes = 1U << 20U;      // at the beginning, if the budget allows
  std::uint32_t max_tunnel_window_bytes = 16U << 20U;
  std::uint32_t max_received_frame_bytes = 1U << 20U;  // announced
  std::uint32_t max_sent_frame_bytes = 256U << 10U;    // if the peer allows it
  std::uint32_t max_header_block_bytes = 32768;        // compressed, HEADERS and CONTINUATION
  std::uint32_t max_continuations = 16;                // of one block
  HpackDecoder::Limits headers{};
};

// How a stream that did not end well ended.
enum class TunnelResetCause : std::uint8_t {
  kPeer,       // the peer sent RST_STREAM
  kViolation,  // the peer broke the stream's rules; we have reset it
  kGoAway,     // the peer never saw it: safe to try on another tunnel
  kTunnel      // the tunnel ended under it
};
struct TunnelStreamReset {
  H2Error code = H2Error::kNoError;
  TunnelResetCause cause = TunnelResetCause::kPeer;
};

struct TunnelGoAway {
  TunnelStreamId last_stream_id = 0;
  H2Error code = H2Error::kNoError;
  std::string_view debug;  // dies with the call
};

// A CONNECT request as a server receives it; views die with the call.
struct TunnelRequest {
  std::string_view authority;
  const H2FieldList& fields;  // all of them, pseudo-headers too
};

// TunnelStreamHandler hears of one stream. Not called any more after OnRefused, OnReset,
// and after ResetStream. A stream that both sides have ended is forgotten once all its
// bytes were returned. Calls may use the mux freely, but not destroy it.
class TunnelStreamHandler {
 public:
  TunnelStreamHandler() = default;
  TunnelStreamHandler(const TunnelStreamHandler&) = delete;
  TunnelStreamHandler& operator=(const TunnelStreamHandler&) = delete;
  // Client: answered with this 2xx status.
  virtual void OnAccepted(std::uint16_t status) noexcept = 0;
  // Client: answered otherwise; the stream is gone. `fields` of the answer die with the call.
  virtual void OnRefused(std::uint16_t status, const H2FieldList& fields) noexcept = 0;
  // A part of a DATA frame, never empty. The bytes die with the call and count against the
  // windows until ReturnCredit.
  virtual void OnData(std::span<const std::uint8_t> bytes) noexcept = 0;
  // The peer has half-closed.
  virtual void OnEnd() noexcept = 0;
  // The stream is gone.
  virtual void OnReset(const TunnelStreamReset& reset) noexcept = 0;
  // A Write that came up short may be tried again.
  virtual void OnWritable() noexcept = 0;

 protected:
  ~TunnelStreamHandler() = default;
};

// TunnelMuxHandler hears of the connection.
class TunnelMuxHandler {
 public:
  TunnelMuxHandler() = default;
  TunnelMuxHandler(const TunnelMuxHandler&) = delete;
  TunnelMuxHandler& operator=(const TunnelMuxHandler&) = delete;
  // Server: a valid CONNECT. Answer with Accept, Refuse or ResetStream, now or later. The
  // result hears of the stream; null if the callee has reset or refused it.
  virtual TunnelStreamHandler* OnStreamOpened(TunnelStreamId id,
                                              const TunnelRequest& request) noexcept = 0;
  // Client: OpenStream failed with kAtPeerLimit before and may be tried again, later: not
  // from within this call, which may come out of a call of a session.
  virtual void OnStreamSlot() noexcept = 0;
  // The peer takes no new streams.
  virtual void OnGoAway(const TunnelGoAway& goaway) noexcept = 0;
  // The peer broke the protocol or a limit: GOAWAY with `code` is in the output, the
  // streams have been told. Send the output and close.
  virtual void OnConnectionError(H2Error code, TunnelViolation violation) noexcept = 0;

 protected:
  ~TunnelMuxHandler() = default;
};

// Where a mux puts its output. The owner says how much more it wants to buffer: Write
// stops there, so that a slow socket stops the writers. Frames that must go (windows,
// resets, answers) do not wait for room; how many of them a peer can cause is limited.
class TunnelOutput : public ByteSink {
 public:
  // Bytes that the owner likes to take now; 0 when its buffer is full.
  [[nodiscard]] virtual std::size_t Room() const = 0;

 protected:
  ~TunnelOutput() = default;
};

enum class OpenError : std::uint8_t {
  kAtPeerLimit,  // SETTINGS_MAX_CONCURRENT_STREAMS: OnStreamSlot follows
  kDraining,     // GOAWAY was seen or sent
  kIdsExhausted,
  kClosed,
};

// TunnelMux is one HTTP/2 connection of CONNECT streams. Never blocks, holds no payload:
// DATA goes from the network's bytes to the handler and from the writer's bytes to the
// output in one step. All state is in plain members (nothing hidden in a library
// session). One thread; not destroyed from within its own callbacks.
//
// A stream: idle -> open (OpenStream, OnStreamOpened) -> half-closed by EndStream or
// OnEnd -> forgotten when both happened and every byte was returned. ResetStream, OnReset
// and OnRefused forget it at once. Calls with the id of a forgotten stream do nothing.
class TunnelMux {
 public:
  // `output`, `handler` and `budget` outlive the mux. The first flight (preface, SETTINGS,
  // windows) goes to `output` with Start.
  TunnelMux(const TunnelMuxConfig& config, TunnelOutput& output, TunnelMuxHandler& handler,
            WindowBudget& budget);
  TunnelMux(const TunnelMux&) = delete;
  TunnelMux& operator=(const TunnelMux&) = delete;
  ~TunnelMux();

  void Start(base::MonotonicTime now);
  // Takes bytes of the peer, all of them. After a connection error they are ignored.
  void Receive(std::span<const std::uint8_t> bytes, base::MonotonicTime now);
  // The output has room again, and all that was in it when it last had none has been
  // sent: writers are told, answers to the peer may be queued anew. Call it whenever the
  // owner's buffer has run empty or fell below its limit.
  void OnOutputDrained(base::MonotonicTime now);
  // The connection is gone: every stream hears OnReset(kTunnel). No output.
  void ConnectionLost();

  // Client. `fields` go behind the pseudo-headers; names in lower case. Data may be
  // written at once, before the answer.
  std::expected<TunnelStreamId, OpenError> OpenStream(std::string_view authority,
                                                      std::span<const H2Field> fields,
                                                      TunnelStreamHandler& handler);
  // Server: answers 200 and lets data flow. False if the stream is gone.
  bool Accept(TunnelStreamId id);
  // Server: answers with `status` (not 2xx) and `fields`, and forgets the stream.
  void Refuse(TunnelStreamId id, std::uint16_t status, std::span<const H2Field> fields = {});

  // Sends as much from the front of `bytes` as windows and room allow and says how much;
  // OnWritable follows if that was not all. A server writes after Accept only.
  [[nodiscard]] std::size_t Write(TunnelStreamId id, std::span<const std::uint8_t> bytes);
  // Half-closes.
  void EndStream(TunnelStreamId id);
  // Forgets the stream, at once; its held bytes return to the tunnel's window.
  void ResetStream(TunnelStreamId id, H2Error code);
  // The consumer is done with `count` bytes of OnData (never more than were handed on).
  void ReturnCredit(TunnelStreamId id, std::size_t count, base::MonotonicTime now);

  // Sends a PING unless one is under way.
  void Ping(base::MonotonicTime now);
  // When the PING that has not been answered yet went out.
  [[nodiscard]] std::optional<base::MonotonicTime> ping_sent() const { return ping_sent_; }
  // The smallest round trip that a PING showed; zero before the first.
  [[nodiscard]] base::Nanoseconds round_trip() const { return round_trip_; }

  // Takes no new streams and tells the peer (GOAWAY, on a server in two steps, so that no
  // request under way is lost); the present ones go on.
  void Drain(base::MonotonicTime now);
  // Ends everything now with GOAWAY(code).
  void Close(H2Error code, std::string_view debug);

  [[nodiscard]] bool closed() const { return closed_; }
  // The peer's preface came: its first SETTINGS.
  [[nodiscard]] bool peer_ready() const { return peer_.received; }
  // GOAWAY was sent or received and no stream is left.
  [[nodiscard]] bool drained() const;
  [[nodiscard]] bool CanOpen() const;
  // Ids run out far ahead: open new streams on another tunnel.
  [[nodiscard]] bool should_retire() const { return next_stream_id_ > kRetireStreamId; }
  [[nodiscard]] std::size_t stream_count() const { return streams_.size(); }
  // Whether streams wait for room in the output and for nothing else.
  [[nodiscard]] bool room_wanted() const { return send_window_ > 0 && !queue_.empty(); }
  // Whether streams wait for the tunnel's credit (not for their own, nor for the output).
  [[nodiscard]] bool window_bound() const { return send_window_ <= 0 && !queue_.empty(); }
  [[nodiscard]] std::size_t memory_bytes() const;
  // Frees memory that an idle connection does not need.
  void Trim();

 private:
  static constexpr TunnelStreamId kRetireStreamId = 1U << 30U;

  struct PeerSettings {
    std::uint32_t max_streams = 100;  // what RFC 9113 section 6.5.2 advises, until told
    std::uint32_t initial_window_bytes = kH2DefaultWindowBytes;
    std::uint32_t max_frame_bytes = kH2DefaultFrameBytes;
    bool received = false;
  };

  [[nodiscard]] bool is_client() const { return config_.role == TunnelRole::kClient; }

  // Frames of the peer (tunnel_mux_receive.cc).
  void TakePreface(std::span<const std::uint8_t>& bytes);
  void OnEvent(const H2Event& event);
  void OnReaderError(const H2Event& event);
  void OnFrame(const H2Event& event);
  void OnDataPart(const H2Event& event);
  // DATA that its stream (null: no present one) may not have.
  void OnMisplacedData(const H2Event& event, const TunnelStreamState* stream);
  void OnHeaders(const H2Event& event);
  void OnContinuation(const H2Event& event);
  void OnHeaderBlock(const H2FrameHeader& header, std::span<const std::uint8_t> block);
  void OnNewRequest(const H2FrameHeader& header, bool too_large);
  void OnResponse(const H2FrameHeader& header, bool too_large);
  void OnSettings(const H2Event& event);
  void OnSettingsAck();
  // The error that a setting is, or kNoError.
  H2Error ApplySetting(H2Setting id, std::uint32_t value);
  H2Error ApplyInitialWindow(std::uint32_t value);
  void OnPing(const H2Event& event);
  void OnPingAck(std::uint64_t opaque);
  void OnGoAwayFrame(const H2Event& event);
  void OnRstStream(const H2Event& event);
  void OnWindowUpdate(const H2Event& event);
  void OnStreamWindowUpdate(TunnelStreamId id, std::uint32_t increment);
  void EndStreamByPeer(TunnelStreamId id);

  // Whether the peer may name this stream id: it was opened at some time.
  [[nodiscard]] bool WasOpened(TunnelStreamId id) const;
  [[nodiscard]] bool RecentlyReset(TunnelStreamId id) const;
  void RememberReset(TunnelStreamId id);
  // Takes a token, or fails the connection.
  bool AllowOrFail(FloodGuard::Kind kind);
  // Counts an answer that the peer made us queue; too many fail the connection.
  bool CountReplyOrFail();
  void Fail(H2Error code, TunnelViolation violation);
  // Answers a request or frame for no present stream with RST_STREAM.
  void Reject(TunnelStreamId id, H2Error code);
  // Resets a stream whose peer broke a rule.
  void FailStream(TunnelStreamId id, H2Error code);

  // Streams and windows (tunnel_mux.cc).
  TunnelStreamState& AddStream(TunnelStreamId id, TunnelStreamHandler* handler);
  // Takes the stream out of the table; its held bytes go back to the tunnel's window.
  void Forget(TunnelStreamId id);
  void OnHalfEnded(TunnelStreamId id);
  void ResetAllStreams();
  void OfferSlot();
  void ReturnTunnelCredit(std::uint32_t count);
  void UpdateStreamWindow(TunnelStreamState& stream);
  void UpdateTunnelWindow();
  // Whether half a window was drained in less than two round trips: then the window, not
  // the consumer, is what limits the sender.
  [[nodiscard]] bool DrainedFast(const ReceiveWindow& window) const;
  void MeasureRoundTrip();
  bool GrowTunnelWindow();
  void SendPing();
  void SendHeaders(TunnelStreamId id, std::span<const H2Field> fields, std::uint8_t flags);
  void NotifyWritable(TunnelStreamState& stream);
  // Tells a stream that waits for its own credit, now or in its turn.
  void OfferWrite(TunnelStreamId id);
  void Enqueue(TunnelStreamState& stream);
  void RunQueue();
  [[nodiscard]] std::uint32_t now_us() const;

  TunnelMuxConfig config_;
  TunnelOutput& output_;
  TunnelMuxHandler& handler_;
  WindowBudget& budget_;
  FrameReader reader_;
  HpackDecoder decoder_;
  HpackEncoder encoder_;
  FloodGuard guard_;
  StreamTable streams_;
  std::size_t active_streams_ = 0;  // those that are not ended on both sides
  PeerSettings peer_;
  ReceiveWindow receive_;
  std::uint64_t budget_taken_bytes_ = 0;
  std::int64_t send_window_ = kH2DefaultWindowBytes;

  std::vector<TunnelStreamId> queue_;  // streams that wait for tunnel credit or room, in turn
  std::vector<TunnelStreamId> recently_reset_;  // a ring; the peer may not know yet
  std::size_t recently_reset_next_ = 0;
  std::vector<std::uint8_t> header_block_;  // of HEADERS that CONTINUATION goes on with
  H2FrameHeader header_block_of_;           // stream_id 0: none is open
  std::uint32_t continuations_ = 0;
  H2FieldList fields_;

  TunnelStreamId next_stream_id_ = 1;              // client: the next to open
  TunnelStreamId highest_peer_stream_ = 0;         // server: the highest seen
  TunnelStreamId goaway_limit_ = kH2LastStreamId;  // server: streams above are ignored
  base::MonotonicTime now_{};
  std::optional<base::MonotonicTime> ping_sent_;
  base::MonotonicTime round_trip_measured_{};
  std::uint64_t ping_opaque_ = 0;
  base::Nanoseconds round_trip_{0};
  std::uint32_t unsent_replies_ = 0;
  std::uint32_t preface_matched_ = 0;
  bool settings_acknowledged_ = false;
  bool slot_wanted_ = false;
  bool goaway_sent_ = false;
  bool goaway_received_ = false;
  bool drain_ping_ = false;  // the PING under way ends the first step of Drain
  bool closed_ = false;
  bool receiving_ = false;
};

}  // namespace weir::http
