#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/base/unique_fd.h"
#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/leg.h"

namespace weir::proxy {

// What reads of one worker go through: an idle connection owns no buffer.
inline constexpr std::size_t kScratchBytes = std::size_t{256} << 10U;

// Sets what every leg that the agent connects has: no delay, and keepalive that finds a
// dead peer after 60 s and three probes 10 s apart.
void SetLegOptions(int fd);

// The reason that an errno of a connecting or connected socket stands for.
observe::Reason ReasonOf(int sys_errno);

// SocketLeg is a leg over a TCP socket: one recv per readiness into the worker's scratch
// (two when the end is there as well), one send per Write; only what the kernel refused is
// kept. Closed as soon as both ends are sent. What epoll is asked for is widened at once
// and narrowed only when something comes that nobody wants.
//
//   state         readable event        writable event      error
//   kConnecting   -                     kOpen, OnLegOpen    kClosed, OnLegFailed
//   kOpen         OnLegData / OnLegEnd  flush the backlog   kClosed, OnLegFailed
//   kClosed       -                     -                   -
class SocketLeg final : public Leg, private io::EventHandler {
 public:
  enum class State : std::uint8_t { kConnecting, kOpen, kClosed };

  // `scratch` (kScratchBytes) is shared by all legs of the worker and outlives them, as do
  // `loop` and `owner`. `state` is kConnecting for a socket that connect() was called on.
  // Nothing is called back before Start.
  SocketLeg(io::EventLoop& loop, io::MutableBytes scratch, LegOwner& owner, base::UniqueFd fd,
            State state);
  ~SocketLeg() override;

  // Begins to watch the socket; false if the kernel refuses that. One that is connected
  // already (over loopback that is done within connect()) becomes kOpen without OnLegOpen.
  [[nodiscard]] bool Start();
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] State state() const { return state_; }
  // Gives up the socket, for somebody else to go on with it.
  base::UniqueFd Release();

  void Write(io::Bytes first, io::Bytes second) override;
  [[nodiscard]] std::size_t backlog() const override { return pending_.size(); }
  void ShutdownWrite() override;
  void PauseReading() override;
  void ResumeReading() override;
  void Consumed(std::size_t count) override { (void)count; }  // the kernel's window does it
  void Reset(observe::Reason reason) override;

 private:
  void OnEvents(std::uint32_t events) noexcept override;
  void OnConnectResult();
  void OnReadable(std::uint32_t events);
  // Whether more may come of this readiness.
  bool ReadOnce();
  void OnWritable();
  void Fail(int sys_errno);
  [[nodiscard]] std::uint32_t WantedEvents() const;
  [[nodiscard]] bool Register();
  void UpdateWatch();
  // Both are done with.
  void Close();
  std::size_t SendNow(io::Bytes first, io::Bytes second);
  void SendFin();

  io::EventLoop& loop_;
  io::MutableBytes scratch_;
  LegOwner& owner_;
  base::UniqueFd fd_;
  io::Watch watch_;
  io::ByteBuffer pending_;
  State state_;
  bool paused_ = false;
  bool ended_ = false;       // read end of stream
  bool fin_wanted_ = false;  // behind pending_
  bool hung_up_ = false;     // EPOLLHUP while paused: out of epoll until resumed
};

}  // namespace weir::proxy
