#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/io/event_loop.h"

namespace weir::bench {

inline constexpr std::size_t kPageBytes = 128;     // of an answer to GET
inline constexpr std::size_t kMessageBytes = 133;  // of a gRPC message, its prefix included

// nghttp2's list of a header block; the views must outlive the list.
std::vector<nghttp2_nv> FieldList(
    std::span<const std::pair<std::string_view, std::string_view>> fields);

// Http2End is one end of an HTTP/2 connection in the clear: a session of nghttp2, a socket and
// their place in an event loop.
class Http2End : public io::EventHandler {
 public:
  enum class Role : std::uint8_t { kClient, kServer };

  virtual ~Http2End();

 protected:
  explicit Http2End(io::EventLoop& loop) : loop_(loop) {}

  // Takes a socket that is connected (kServer) or connecting (kClient). False: no room.
  bool Start(base::UniqueFd fd, Role role);
  // No event comes any more; the socket is closed.
  void Close();
  // Sends what the session has to say, as far as the socket takes it.
  void Flush();
  [[nodiscard]] nghttp2_session* session() { return session_; }
  [[nodiscard]] io::EventLoop& loop() { return loop_; }

  virtual void OnHeader(std::int32_t stream, std::string_view name, std::string_view value) = 0;
  // The head of a request or an answer is complete.
  virtual void OnHead(std::int32_t stream) = 0;
  virtual void OnData(std::int32_t stream, std::string_view bytes) = 0;
  // The other end has sent its last byte on this stream.
  virtual void OnEnd(std::int32_t stream) = 0;
  virtual void OnClosed(std::int32_t stream, std::uint32_t code) = 0;
  // What nghttp2_data_source_read_callback does.
  virtual ssize_t ReadData(std::int32_t stream, std::uint8_t* out, std::size_t room,
                           std::uint32_t* flags) = 0;
  // The connection is of no use any more. May destroy this.
  virtual void OnBroken() = 0;

  // For nghttp2_submit_request and nghttp2_submit_response.
  static const nghttp2_data_provider kProvider;

 private:
  static nghttp2_session_callbacks* Callbacks();
  void OnEvents(std::uint32_t events) noexcept override;
  // Both false: the connection has ended.
  bool Receive();
  bool Send();

  io::EventLoop& loop_;
  base::UniqueFd fd_;
  io::Watch watch_;
  nghttp2_session* session_ = nullptr;
  std::string out_;
  std::size_t sent_ = 0;  // of out_
  bool connecting_ = false;
};

}  // namespace weir::bench
