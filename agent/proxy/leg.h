#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/io/byte_buffer.h"
#include "agent/observe/record.h"

namespace weir::proxy {

class Leg;

// LegOwner is told what happens on its legs. It must not destroy a leg inside a call that
// the leg makes; sessions go at the end of the turn. Worker.
class LegOwner {
 public:
  LegOwner() = default;
  LegOwner(const LegOwner&) = delete;
  LegOwner& operator=(const LegOwner&) = delete;

  // A leg that was being made is connected.
  virtual void OnLegOpen(Leg& leg) noexcept = 0;
  // Bytes came. Whoever got them answers with Leg::Consumed once they need no memory here
  // any more; views die with the call.
  virtual void OnLegData(Leg& leg, io::Bytes bytes) noexcept = 0;
  // The other end has sent its last byte.
  virtual void OnLegEnd(Leg& leg) noexcept = 0;
  // `count` bytes that Write had kept back were taken.
  virtual void OnLegFlushed(Leg& leg, std::size_t count) noexcept = 0;
  // The leg broke or was never made; nothing else comes of it. `reason` speaks of it as of
  // an upstream (kUpstreamReset, ...): only its owner knows which side it is.
  virtual void OnLegFailed(Leg& leg, observe::Reason reason) noexcept = 0;

 protected:
  ~LegOwner() = default;
};

// Leg is one end of a joined pair of byte streams: a socket, or a stream of a tunnel.
// Destroying it without Reset closes it in order as far as it got. Worker.
class Leg {
 public:
  Leg() = default;
  Leg(const Leg&) = delete;
  Leg& operator=(const Leg&) = delete;
  virtual ~Leg() = default;

  // Sends `first` and then `second`. What is not taken at once is kept and sent later;
  // whoever sees backlog() grow stops reading from the other leg, which is what bounds it.
  virtual void Write(io::Bytes first, io::Bytes second) = 0;
  // Bytes that were written and not taken yet.
  [[nodiscard]] virtual std::size_t backlog() const = 0;
  // Sends the end of the stream behind what was written.
  virtual void ShutdownWrite() = 0;
  // Stops and resumes OnLegData and OnLegEnd. A stream of a tunnel may still deliver what
  // its window admits.
  virtual void PauseReading() = 0;
  virtual void ResumeReading() = 0;
  // `count` bytes given to OnLegData need no memory any more.
  virtual void Consumed(std::size_t count) = 0;
  // Breaks the leg off: the other end sees a reset. Nothing is called back afterwards.
  virtual void Reset(observe::Reason reason) = 0;
};

}  // namespace weir::proxy
