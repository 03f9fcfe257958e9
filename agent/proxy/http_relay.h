#pragma once

#include <cstdint>

#include "agent/base/clock.h"
#include "agent/http/flood_guard.h"
#include "agent/io/byte_buffer.h"
#include "agent/observe/record.h"

namespace weir::proxy {

// HttpRelay follows the HTTP messages of one application connection: downstream is who sends
// requests, upstream who answers. Sans I/O: bytes in, bytes out. Worker.
class HttpRelay {
 public:
  enum class Action : std::uint8_t {
    kContinue,
    kOpaque,  // after Upgrade or CONNECT: pass everything on from now, do not call again
    kHttp2,   // after an Upgrade to h2c: see Http1Relay::TakeUpgrade, do not call again
    kClose,   // send what is for both, then close the downstream; nothing more is taken
    kReset,   // reset both: what was sent so far cannot be completed
  };
  struct Result {
    Action action = Action::kContinue;
    observe::Reason reason = observe::Reason::kNone;  // of kClose and kReset
    // The rest of the call's input, to be passed on as it is behind what was appended to
    // the buffer of that direction: a body is not copied. Dies with the input.
    io::Bytes direct;
    // kHttp2: what of the input was not taken.
    io::Bytes rest{};
  };
  // Where output is appended. A call may write to both.
  struct Output {
    io::ByteBuffer& to_upstream;
    io::ByteBuffer& to_downstream;
  };

  HttpRelay() = default;
  HttpRelay(const HttpRelay&) = delete;
  HttpRelay& operator=(const HttpRelay&) = delete;
  virtual ~HttpRelay() = default;

  // Input is taken whole. While wants_downstream() is false neither of the two downstream
  // calls may be made: leave the bytes, and the FIN, in the socket.
  virtual Result OnDownstreamBytes(io::Bytes bytes, const Output& out) = 0;
  virtual Result OnUpstreamBytes(io::Bytes bytes, const Output& out) = 0;
  // A side sent its last byte (FIN). kContinue: pass the FIN on.
  virtual Result OnDownstreamEnd(const Output& out) = 0;
  virtual Result OnUpstreamEnd(const Output& out) = 0;
  // waiting_for_headers() was true for too long.
  virtual Result OnHeaderTimeout(const Output& out) = 0;
  // The connection is to end as soon as it is idle: tells the downstream if there is a way.
  virtual void OnDrain(const Output& out) { (void)out; }
  // The connection has ended, or is about to: reports each request that has not ended,
  // with `reason`. Idempotent; call it always, last.
  virtual void Finish(observe::Reason reason) = 0;

  // A request's head has begun and is not complete: the time for the header timeout.
  // False on an idle connection, which may stay idle.
  [[nodiscard]] virtual bool waiting_for_headers() const = 0;
  // When that head began; meaningful while waiting_for_headers().
  [[nodiscard]] virtual base::MonotonicTime head_began() const = 0;
  // False while requests must not be read. Ask again after OnUpstreamBytes.
  [[nodiscard]] virtual bool wants_downstream() const = 0;
  // No request is open and none has begun.
  [[nodiscard]] virtual bool idle() const = 0;
  // Why kClose, if an end of an HTTP/2 connection broke its rules.
  [[nodiscard]] virtual http::H2Violation violation() const { return http::H2Violation::kNone; }
};

}  // namespace weir::proxy
