#pragma once

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace weir::test {

using TextFields = std::vector<std::pair<std::string, std::string>>;

// A message that an end sends.
struct Nghttp2Message {
  TextFields fields;
  std::string body{};
  TextFields trailers{};
  bool is_tunnel = false;  // CONNECT: the data has an end of its own, even if there is none
};

// One stream as an end sees it.
struct Nghttp2Stream {
  TextFields fields;    // of the head
  TextFields trailers;  // and behind the data
  std::string body;
  bool ended = false;  // by the other end
  bool closed = false;
  std::uint32_t close_code = 0;
  Nghttp2Message sends;
  std::size_t sent = 0;
  bool got_head = false;

  [[nodiscard]] std::string Field(const std::string& name) const {
    for (const auto& [key, value] : fields) {
      if (key == name) {
        return value;
      }
    }
    return "";
  }
};

// An HTTP/2 client or server made of an nghttp2 session, without sockets. A server answers
// each request with what `answer` makes of it: when it has ended, or at once with
// `answers_heads`, as for CONNECT.
class Nghttp2End {
 public:
  explicit Nghttp2End(bool server) : server_(server) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnChunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, SelectPadding);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, OnInvalid);
    if (server) {
      nghttp2_session_server_new(&session_, callbacks, this);
    } else {
      nghttp2_session_client_new(&session_, callbacks, this);
    }
    nghttp2_session_callbacks_del(callbacks);
  }
  Nghttp2End(const Nghttp2End&) = delete;
  Nghttp2End& operator=(const Nghttp2End&) = delete;
  ~Nghttp2End() { nghttp2_session_del(session_); }

  void Settings(const std::vector<nghttp2_settings_entry>& settings) {
    ASSERT_EQ(
        nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()), 0);
  }
  std::int32_t Request(Nghttp2Message message) {
    const std::vector<nghttp2_nv> list = List(message.fields);
    const nghttp2_data_provider provider{.source = {.ptr = this}, .read_callback = ReadData};
    const std::int32_t id = nghttp2_submit_request(session_, nullptr, list.data(), list.size(),
                                                   HasData(message) ? &provider : nullptr, nullptr);
    EXPECT_GT(id, 0);
    streams[id].sends = std::move(message);
    return id;
  }
  void Reset(std::int32_t id, std::uint32_t code = NGHTTP2_CANCEL) {
    ASSERT_EQ(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code), 0);
  }
  std::vector<std::uint8_t> Send() {
    std::vector<std::uint8_t> sent;
    for (;;) {
      const std::uint8_t* data = nullptr;
      const auto count = nghttp2_session_mem_send(session_, &data);
      if (count <= 0) {
        EXPECT_EQ(count, 0) << nghttp2_strerror(static_cast<int>(count));
        return sent;
      }
      sent.insert(sent.end(), data, data + count);
    }
  }
  void Receive(std::span<const std::uint8_t> bytes) {
    const auto count = nghttp2_session_mem_recv(session_, bytes.data(), bytes.size());
    EXPECT_EQ(count, static_cast<ssize_t>(bytes.size()))
        << nghttp2_strerror(static_cast<int>(count));
  }
  nghttp2_session* session() { return session_; }

  std::map<std::int32_t, Nghttp2Stream> streams;
  std::function<Nghttp2Message(const Nghttp2Stream&)> answer;
  bool answers_heads = false;
  std::size_t padding = 0;  // of each frame that may have it
  int goaways = 0;
  std::uint32_t goaway_code = 0;
  int invalid_frames = 0;  // received

 private:
  static Nghttp2End& Of(void* user) { return *static_cast<Nghttp2End*>(user); }
  static bool HasData(const Nghttp2Message& message) {
    return !message.body.empty() || !message.trailers.empty() || message.is_tunnel;
  }
  // Fields named "authorization" are sent so that they may never be indexed.
  static std::vector<nghttp2_nv> List(const TextFields& fields) {
    std::vector<nghttp2_nv> list;
    for (const auto& [name, value] : fields) {
      list.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(),
                      value.size(),
                      static_cast<std::uint8_t>(name == "authorization" ? NGHTTP2_NV_FLAG_NO_INDEX
                                                                        : NGHTTP2_NV_FLAG_NONE)});
    }
    return list;
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                      std::size_t name_bytes, const std::uint8_t* value, std::size_t value_bytes,
                      std::uint8_t flags, void* user) {
    Nghttp2Stream& stream = Of(user).streams[frame->hd.stream_id];
    TextFields& to = stream.got_head ? stream.trailers : stream.fields;
    to.emplace_back(std::string(name, name + name_bytes), std::string(value, value + value_bytes));
    const bool secret = (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0;
    if (to.back().first == "authorization") {
      EXPECT_TRUE(secret);
    }
    return 0;
  }
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Nghttp2End& end = Of(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      ++end.goaways;
      end.goaway_code = frame->goaway.error_code;
    }
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) {
      return 0;
    }
    Nghttp2Stream& stream = end.streams[frame->hd.stream_id];
    stream.got_head = stream.got_head || frame->hd.type == NGHTTP2_HEADERS;
    const bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    stream.ended = stream.ended || ended;
    const bool is_due = end.answers_heads ? frame->hd.type == NGHTTP2_HEADERS : ended;
    if (is_due && end.server_ && end.answer) {
      end.Answer(session, frame->hd.stream_id, stream);
    }
    return 0;
  }
  void Answer(nghttp2_session* session, std::int32_t id, Nghttp2Stream& stream) {
    stream.sends = answer(stream);
    const std::vector<nghttp2_nv> list = List(stream.sends.fields);
    const nghttp2_data_provider provider{.source = {.ptr = this}, .read_callback = ReadData};
    EXPECT_EQ(nghttp2_submit_response(session, id, list.data(), list.size(),
                                      HasData(stream.sends) ? &provider : nullptr),
              0);
  }
  static int OnChunk(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                     std::size_t count, void* user) {
    Of(user).streams[id].body.append(data, data + count);
    return 0;
  }
  static int OnClose(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
    Of(user).streams[id].closed = true;
    Of(user).streams[id].close_code = code;
    return 0;
  }
  static int OnInvalid(nghttp2_session*, const nghttp2_frame*, int, void* user) {
    ++Of(user).invalid_frames;
    return 0;
  }
  static ssize_t SelectPadding(nghttp2_session*, const nghttp2_frame* frame, std::size_t most,
                               void* user) {
    return static_cast<ssize_t>(std::min(most, frame->hd.length + Of(user).padding));
  }
  static ssize_t ReadData(nghttp2_session* session, std::int32_t id, std::uint8_t* out,
                          std::size_t room, std::uint32_t* flags, nghttp2_data_source*,
                          void* user) {
    Nghttp2Stream& stream = Of(user).streams[id];
    const std::string& body = stream.sends.body;
    const std::size_t count = std::min(room, body.size() - stream.sent);
    std::copy_n(body.data() + stream.sent, count, out);
    stream.sent += count;
    if (stream.sent == body.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (!stream.sends.trailers.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const std::vector<nghttp2_nv> list = List(stream.sends.trailers);
        EXPECT_EQ(nghttp2_submit_trailer(session, id, list.data(), list.size()), 0);
      }
    }
    return static_cast<ssize_t>(count);
  }

  nghttp2_session* session_ = nullptr;
  bool server_;
};

}  // namespace weir::test
