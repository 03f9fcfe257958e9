#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "agent/io/byte_buffer.h"
#include "agent/proxy/leg.h"
#include "agent/proxy/tunnel.h"

namespace weir::proxy {

// TunnelLeg is a leg over a stream of a tunnel. The stream's window bounds what it
// delivers, so pausing it means not returning credit.
class TunnelLeg final : public Leg, private TunnelStreamHandler {
 public:
  explicit TunnelLeg(LegOwner& owner) : owner_(owner) {}

  // Opening side: `stream` comes from the pool with this leg as its handler.
  [[nodiscard]] TunnelStreamHandler& handler() { return *this; }
  void Attach(std::unique_ptr<TunnelStream> stream) { stream_ = std::move(stream); }
  // Accepting side: takes over a stream, answered later by Accept or Refuse.
  void Adopt(std::unique_ptr<TunnelStream> stream);
  void Accept() { stream_->Accept(); }
  void Refuse(observe::Reason reason);
  // The tunnel that carries it; null before it is chosen and after the stream is gone.
  [[nodiscard]] TunnelConnection* connection() const {
    return stream_ == nullptr ? nullptr : stream_->connection();
  }

  // When its CONNECT was sent; zero before.
  [[nodiscard]] base::MonotonicTime opened_at() const {
    return stream_ == nullptr ? base::MonotonicTime{} : stream_->opened_at();
  }

  void Write(io::Bytes first, io::Bytes second) override;
  [[nodiscard]] std::size_t backlog() const override { return pending_.size(); }
  void ShutdownWrite() override;
  void PauseReading() override {}
  void ResumeReading() override {}
  void Consumed(std::size_t count) override;
  void Reset(observe::Reason reason) override;

 private:
  void OnAccepted() noexcept override;
  void OnRefused(observe::Reason reason, std::uint16_t status,
                 std::string_view detail) noexcept override;
  void OnData(io::Bytes bytes) noexcept override;
  void OnEnd() noexcept override;
  void OnReset(observe::Reason reason) noexcept override;
  void OnWritable() noexcept override;
  void Close();

  LegOwner& owner_;
  std::unique_ptr<TunnelStream> stream_;
  io::ByteBuffer pending_;
  bool closed_ = false;
  bool fin_wanted_ = false;
};

}  // namespace weir::proxy
