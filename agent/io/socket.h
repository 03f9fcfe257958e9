#pragma once

#include <cstdint>

#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"

namespace weir::io {

// Makes a TCP socket of the family of `address` (IPV6_V6ONLY for v6), non-blocking and
// close-on-exec, bound to it and listening. Port 0 picks a free one. In the calling
// thread's network namespace.
base::Result<base::UniqueFd> ListenTcp(const base::Endpoint& address, int backlog);

// Makes a socket like that and starts connecting; EINPROGRESS is success.
base::Result<base::UniqueFd> ConnectTcp(const base::Endpoint& address);

// Small answers must not wait for a full segment.
void SetNoDelay(int fd);

// Makes the close of `fd` send a RST (SO_LINGER with 0), for an upstream that failed:
// the application then sees a reset, not an end of stream.
void ResetOnClose(int fd);

// Whether the connect() that was called on `fd` has ended well by now; takes no error away.
bool IsConnected(int fd);

// Takes the pending error (SO_ERROR) of a connecting socket: 0 once it is connected.
int TakeSocketError(int fd);

}  // namespace weir::io
