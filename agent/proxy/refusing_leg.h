#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/http/h2_frame.h"
#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/leg.h"

namespace weir::proxy {

// RefusingLeg stands where the application would be while the requests of a denied connection
// are answered: no application is connected and no byte passed on. It takes what is written
// and, since an HTTP/2 client waits for the server's SETTINGS, answers frames of the
// connection itself (SETTINGS, PING). Open from the beginning. Worker.
class RefusingLeg final : public Leg {
 public:
  RefusingLeg(io::EventLoop& loop, LegOwner& owner);

  void Write(io::Bytes first, io::Bytes second) override;
  [[nodiscard]] std::size_t backlog() const override { return 0; }
  void ShutdownWrite() override;
  void PauseReading() override { paused_ = true; }
  void ResumeReading() override;
  void Consumed(std::size_t count) override { (void)count; }
  void Reset(observe::Reason reason) override;

 private:
  void Take(io::Bytes bytes);
  void Answer(const http::H2Event& event);
  void Speak();

  LegOwner& owner_;
  io::Timer timer_;  // answers come in a turn of their own, not from within Write
  http::FrameReader reader_;
  io::ByteBuffer answers_;
  std::size_t preface_left_ = http::kH2Preface.size();
  bool paused_ = false;
  bool ended_ = false;
  bool closed_ = false;
};

}  // namespace weir::proxy
