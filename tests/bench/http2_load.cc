// The modes h2 and grpc of weir_load: as many streams at once as asked for, each with one
// request or message in flight; what comes back is compared with what must.
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "agent/io/socket.h"
#include "tests/bench/http2_end.h"
#include "tests/bench/load.h"

namespace weir::bench {
namespace {

using base::MonotonicTime;
using Field = std::pair<std::string_view, std::string_view>;

constexpr std::size_t kMessagesPerStream = 100;  // of a gRPC stream; then another begins
constexpr auto kWarmUp = std::chrono::milliseconds(500);
constexpr auto kDrain = std::chrono::seconds(10);

class Http2Load;

// One exchange after the other on a connection.
struct Stream {
  MonotonicTime since{};
  bool is_ok = false;  // the head said 200
  bool has_grpc_ok = false;
  bool has_ended = false;
  bool is_waiting = false;   // the session waits for data of ours
  std::size_t received = 0;  // of the answer, or of the message that is echoed
  std::size_t messages = 0;  // sent so far
  std::size_t unsent = 0;    // bytes of the last message
  bool may_end = false;      // no further message
  std::string message{};
};

class LoadConnection final : public Http2End {
 public:
  LoadConnection(io::EventLoop& loop, Http2Load& load) : Http2End(loop), load_(load) {}
  bool Open();
  [[nodiscard]] bool is_idle() const { return open_ == 0; }

 private:
  Stream& Of(std::int32_t id) {
    return *static_cast<Stream*>(nghttp2_session_get_stream_user_data(session(), id));
  }
  void Ask(Stream& stream);
  void NextMessage(Stream& stream);

  void OnHeader(std::int32_t id, std::string_view name, std::string_view value) override {
    if (name == ":status") {
      Of(id).is_ok = value == "200";
    } else if (name == "grpc-status") {
      Of(id).has_grpc_ok = value == "0";
    }
  }
  void OnHead(std::int32_t) override {}
  void OnData(std::int32_t id, std::string_view bytes) override;
  void OnEnd(std::int32_t id) override;
  void Abandon(std::int32_t id) {
    nghttp2_submit_rst_stream(session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
  }
  void OnClosed(std::int32_t id, std::uint32_t code) override;
  void OnBroken() override;
  ssize_t ReadData(std::int32_t id, std::uint8_t* out, std::size_t room,
                   std::uint32_t* flags) override;

  Http2Load& load_;
  std::vector<Stream> streams_;
  std::size_t open_ = 0;
  bool broken_ = false;
};

// What all connections share.
class Http2Load {
 public:
  Http2Load(io::EventLoop& loop, const Options& options)
      : loop_(loop), options_(options), authority_(options.target.ToString()) {}

  int Run() {
    for (std::size_t i = 0; i < options_.connections; ++i) {
      connections_.push_back(std::make_unique<LoadConnection>(loop_, *this));
      if (!connections_.back()->Open()) {
        std::fputs("weir_load: cannot open a connection\n", stderr);
        return 1;
      }
    }
    TurnUntil(loop_.clock().Now() + kWarmUp);
    is_measuring_ = true;
    PrintBegin();
    const MonotonicTime start = loop_.clock().Now();
    TurnUntil(start + base::Nanoseconds(static_cast<std::int64_t>(options_.seconds * 1e9)));
    const MonotonicTime end = loop_.clock().Now();
    is_measuring_ = false;
    is_stopping_ = true;
    while (!IsIdle() && loop_.clock().Now() < end + kDrain) {
      loop_.RunOnce(std::chrono::milliseconds(20));
    }
    Print(totals_, std::chrono::duration<double>(end - start).count());
    return 0;
  }

  Totals& totals() { return totals_; }
  [[nodiscard]] bool is_grpc() const { return options_.mode == Mode::kGrpc; }
  [[nodiscard]] bool is_measuring() const { return is_measuring_; }
  [[nodiscard]] bool is_stopping() const { return is_stopping_; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const std::string& authority() const { return authority_; }

 private:
  void TurnUntil(MonotonicTime end) {
    while (loop_.clock().Now() < end) {
      loop_.RunOnce(std::chrono::milliseconds(20));
    }
  }
  [[nodiscard]] bool IsIdle() const {
    return std::ranges::all_of(connections_, [](const auto& one) { return one->is_idle(); });
  }

  io::EventLoop& loop_;
  const Options options_;
  const std::string authority_;
  Totals totals_;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  bool is_measuring_ = false;
  bool is_stopping_ = false;
};

bool LoadConnection::Open() {
  auto fd = io::ConnectTcp(load_.options().target);
  if (!fd || !Start(std::move(*fd), Role::kClient)) {
    return false;
  }
  streams_.resize(load_.options().streams);
  for (Stream& stream : streams_) {
    Ask(stream);
  }
  return true;
}

void LoadConnection::Ask(Stream& stream) {
  const std::array<Field, 4> get = {Field{":method", "GET"},
                                    {":scheme", "http"},
                                    {":authority", load_.authority()},
                                    {":path", "/small"}};
  const std::array<Field, 6> call = {Field{":method", "POST"},
                                     {":scheme", "http"},
                                     {":authority", load_.authority()},
                                     {":path", "/weir.bench.Echo/Both"},
                                     {"content-type", "application/grpc"},
                                     {"te", "trailers"}};
  const auto fields = load_.is_grpc() ? FieldList(call) : FieldList(get);
  stream = {.since = loop().clock().Now()};
  if (load_.is_grpc()) {
    NextMessage(stream);
  } else {
    ++load_.totals().sent;
  }
  ++load_.totals().requests;
  // nghttp2 makes the header block when it sends, and does not copy: all views are of the
  // program's lifetime, or of load_'s.
  if (nghttp2_submit_request(session(), nullptr, fields.data(), fields.size(),
                             load_.is_grpc() ? &kProvider : nullptr, &stream) < 0) {
    load_.totals().Failed("no stream");
    return;
  }
  ++open_;
}

void LoadConnection::NextMessage(Stream& stream) {
  ++load_.totals().sent;
  ++stream.messages;
  stream.message.assign(kMessageBytes, static_cast<char>('a' + stream.messages % 26));
  const std::size_t length = kMessageBytes - 5;
  for (std::size_t i = 0; i < 5; ++i) {
    stream.message[i] = i == 4 ? static_cast<char>(length) : '\0';
  }
  stream.unsent = kMessageBytes;
  stream.received = 0;
  stream.since = loop().clock().Now();
}

void LoadConnection::OnEnd(std::int32_t id) {
  Of(id).has_ended = true;
  if (load_.is_grpc() && !Of(id).may_end) {
    Abandon(id);  // an answer in the middle of the call
  }
}

void LoadConnection::OnData(std::int32_t id, std::string_view bytes) {
  Stream& stream = Of(id);
  Totals& totals = load_.totals();
  totals.bytes += load_.is_measuring() ? bytes.size() : 0;
  if (!load_.is_grpc()) {
    stream.received += bytes.size();
    stream.is_ok = stream.is_ok && bytes.find_first_not_of('x') == std::string_view::npos;
    return;
  }
  // One message is in flight: more than its rest, or other bytes, is an error of the stream.
  if (!std::string_view(stream.message).substr(stream.received).starts_with(bytes)) {
    Abandon(id);
    return;
  }
  stream.received += bytes.size();
  if (stream.received < kMessageBytes) {
    return;
  }
  totals.Answered(load_.is_measuring(), stream.since, loop().clock().Now());
  if (load_.is_stopping() || stream.messages == kMessagesPerStream) {
    stream.may_end = true;
  } else {
    NextMessage(stream);
  }
  if (std::exchange(stream.is_waiting, false)) {
    nghttp2_session_resume_data(session(), id);
  }
}

ssize_t LoadConnection::ReadData(std::int32_t id, std::uint8_t* out, std::size_t room,
                                 std::uint32_t* flags) {
  Stream& stream = Of(id);
  const std::size_t count = std::min(room, stream.unsent);
  std::copy_n(stream.message.data() + (kMessageBytes - stream.unsent), count, out);
  stream.unsent -= count;
  if (stream.may_end) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  } else if (count == 0) {
    stream.is_waiting = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  return static_cast<ssize_t>(count);
}

void LoadConnection::OnClosed(std::int32_t id, std::uint32_t code) {
  Stream& stream = Of(id);
  Totals& totals = load_.totals();
  --open_;
  const bool is_whole =
      load_.is_grpc() ? stream.has_grpc_ok && stream.may_end : stream.received == kPageBytes;
  if (code != NGHTTP2_NO_ERROR || !stream.has_ended || !stream.is_ok || !is_whole) {
    totals.Failed(code != NGHTTP2_NO_ERROR ? std::string("stream: ") + nghttp2_http2_strerror(code)
                                           : "wrong answer");
  } else if (!load_.is_grpc()) {
    totals.Answered(load_.is_measuring(), stream.since, loop().clock().Now());
  }
  if (!load_.is_stopping()) {
    Ask(stream);
  }
}

void LoadConnection::OnBroken() {
  if (!std::exchange(broken_, true)) {
    load_.totals().Failed("connection", open_ + 1);
    open_ = 0;
    Close();
  }
}

}  // namespace

int RunHttp2Load(io::EventLoop& loop, const Options& options) {
  return Http2Load(loop, options).Run();
}

}  // namespace weir::bench
