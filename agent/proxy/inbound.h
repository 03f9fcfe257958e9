#pragma once

#include <memory>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/io/byte_buffer.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/context.h"
#include "agent/proxy/stream_session.h"

namespace weir::proxy {

// InboundConnection is a connection from outside to a local workload, as the hook gave it.
struct InboundConnection {
  base::UniqueFd fd;
  base::ConnectionTuple tuple;  // local: the original destination
  std::shared_ptr<const model::LocalWorkload> destination;
};

// InboundPeek looks at the first bytes of such a connection: a ClientHello that offers a
// tunnel's ALPN becomes a ServerTunnel, anything else is plain text, refused by a strict
// workload and passed on by a permissive one.
class InboundPeek final : public Session, private io::EventHandler {
 public:
  InboundPeek(WorkerContext& context, InboundConnection connection);
  ~InboundPeek() override;
  void Start();
  void Abort(observe::Reason reason) noexcept override;

 private:
  void OnEvents(std::uint32_t events) noexcept override;
  void OnTimer();
  void Look();
  void BecomePlain();
  void BecomeTunnel();
  void Refuse(observe::Reason reason);
  void RecordRefused(observe::Reason reason);

  WorkerContext& context_;
  InboundConnection connection_;
  io::ByteBuffer held_;
  io::Timer timer_;
  io::Watch watch_;
  base::MonotonicTime start_;
};

// InboundSession is plain text to a permissive workload, on its way to the application.
class InboundSession final : public StreamSession {
 public:
  InboundSession(WorkerContext& context, InboundConnection connection);
  // `first` was read already.
  void Start(io::Bytes first);

 private:
  [[nodiscard]] observe::Reason Contradiction(const model::Snapshot& now) const override;
};

}  // namespace weir::proxy
