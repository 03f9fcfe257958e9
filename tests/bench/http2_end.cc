#include "tests/bench/http2_end.h"

#include <sys/socket.h>

#include <cerrno>

#include "agent/io/socket.h"

namespace weir::bench {
namespace {

constexpr std::size_t kSendBytes = 1U << 16U;
constexpr std::uint32_t kMaxStreams = 4096;

std::uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
}

std::string_view Text(const std::uint8_t* data, std::size_t count) {
  return {reinterpret_cast<const char*>(data), count};
}

}  // namespace

std::vector<nghttp2_nv> FieldList(
    std::span<const std::pair<std::string_view, std::string_view>> fields) {
  std::vector<nghttp2_nv> list;
  list.reserve(fields.size());
  for (const auto& [name, value] : fields) {
    list.push_back(
        {Bytes(name), Bytes(value), name.size(), value.size(),
         static_cast<std::uint8_t>(NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)});
  }
  return list;
}

const nghttp2_data_provider Http2End::kProvider = {
    .source = {.ptr = nullptr},
    .read_callback = [](nghttp2_session*, std::int32_t stream, std::uint8_t* out, std::size_t room,
                        std::uint32_t* flags, nghttp2_data_source*, void* user) {
      return static_cast<Http2End*>(user)->ReadData(stream, out, room, flags);
    }};

nghttp2_session_callbacks* Http2End::Callbacks() {
  static nghttp2_session_callbacks* const callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_header_callback(
        made, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                 std::size_t name_bytes, const std::uint8_t* value, std::size_t value_bytes,
                 std::uint8_t, void* user) {
          static_cast<Http2End*>(user)->OnHeader(frame->hd.stream_id, Text(name, name_bytes),
                                                 Text(value, value_bytes));
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        made, [](nghttp2_session*, std::uint8_t, std::int32_t stream, const std::uint8_t* data,
                 std::size_t count, void* user) {
          static_cast<Http2End*>(user)->OnData(stream, Text(data, count));
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        made, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          auto& end = *static_cast<Http2End*>(user);
          if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat != NGHTTP2_HCAT_HEADERS) {
            end.OnHead(frame->hd.stream_id);
          }
          if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
              (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            end.OnEnd(frame->hd.stream_id);
          }
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        made, [](nghttp2_session*, std::int32_t stream, std::uint32_t code, void* user) {
          static_cast<Http2End*>(user)->OnClosed(stream, code);
          return 0;
        });
    return made;
  }();
  return callbacks;
}

Http2End::~Http2End() {
  nghttp2_session_del(session_);
}

bool Http2End::Start(base::UniqueFd fd, Role role) {
  fd_ = std::move(fd);
  io::SetNoDelay(fd_.get());
  connecting_ = role == Role::kClient;
  auto watch = loop_.Add(fd_.get(), connecting_ ? EPOLLOUT : EPOLLIN, *this);
  if (!watch) {
    return false;
  }
  watch_ = std::move(*watch);
  const int made = role == Role::kClient ? nghttp2_session_client_new(&session_, Callbacks(), this)
                                         : nghttp2_session_server_new(&session_, Callbacks(), this);
  const nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kMaxStreams};
  return made == 0 && nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &settings, 1) == 0;
}

void Http2End::Close() {
  watch_.Reset();
  fd_.Reset();
}

void Http2End::OnEvents(std::uint32_t events) noexcept {
  if (connecting_) {
    if (io::TakeSocketError(fd_.get()) != 0) {
      OnBroken();
      return;
    }
    connecting_ = false;
  } else if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0 && !Receive()) {
    OnBroken();
    return;
  }
  Flush();
}

bool Http2End::Receive() {
  static std::uint8_t buffer[1U << 16U];
  const ssize_t got = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
  if (got < 0) {
    return errno == EAGAIN || errno == EINTR;
  }
  return got > 0 &&
         nghttp2_session_mem_recv(session_, buffer, static_cast<std::size_t>(got)) == got;
}

void Http2End::Flush() {
  if (!connecting_ && (!Send() || (nghttp2_session_want_read(session_) == 0 &&
                                   nghttp2_session_want_write(session_) == 0))) {
    OnBroken();
  }
}

bool Http2End::Send() {
  for (;;) {
    while (out_.size() < kSendBytes) {
      const std::uint8_t* data = nullptr;
      const ssize_t count = nghttp2_session_mem_send(session_, &data);
      if (count < 0) {
        return false;
      }
      if (count == 0) {
        break;
      }
      out_.append(Text(data, static_cast<std::size_t>(count)));
    }
    if (out_.empty()) {
      watch_.Modify(EPOLLIN);
      return true;
    }
    const ssize_t count = ::send(fd_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
      return false;
    }
    sent_ += count > 0 ? static_cast<std::size_t>(count) : 0;
    if (sent_ < out_.size()) {
      watch_.Modify(EPOLLIN | EPOLLOUT);
      return true;
    }
    out_.clear();
    sent_ = 0;
  }
}

}  // namespace weir::bench
