#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/http/h2_frame.h"
#include "agent/http/hpack.h"
#include "agent/http/tunnel_mux.h"

// Ends of a tunnel without sockets, for tests: a multiplexer whose output is kept in
// memory, its streams, and hand-made frames.
namespace weir::test {

using Bytes = std::span<const std::uint8_t>;

inline Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// Wire is a sequence of frames made by hand.
class Wire final : public http::ByteSink {
 public:
  [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t least) override {
    room_.resize(least);
    return room_;
  }
  void Commit(std::size_t count) override {
    bytes_.insert(bytes_.end(), room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }

  Wire& Raw(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  Wire& Frame(http::H2FrameType type, std::uint8_t flags, std::uint32_t stream,
              std::string_view payload) {
    http::AppendFrame(*this, {.type = type, .flags = flags, .stream_id = stream}, AsBytes(payload));
    return *this;
  }
  Wire& Preface() { return Raw(http::kH2Preface); }
  Wire& Settings(std::initializer_list<http::H2SettingValue> values = {}) {
    http::AppendSettings(*this, std::vector(values));
    return *this;
  }
  Wire& SettingsAck() {
    http::AppendSettingsAck(*this);
    return *this;
  }
  Wire& WindowUpdate(std::uint32_t stream, std::uint32_t increment) {
    http::AppendWindowUpdate(*this, stream, increment);
    return *this;
  }
  Wire& Rst(std::uint32_t stream, http::H2Error code = http::H2Error::kCancel) {
    http::AppendRstStream(*this, stream, code);
    return *this;
  }
  Wire& Data(std::uint32_t stream, std::string_view payload, std::uint8_t flags = 0) {
    return Frame(http::H2FrameType::kData, flags, stream, payload);
  }
  Wire& Headers(std::uint32_t stream, const std::vector<http::H2Field>& fields,
                std::uint8_t flags = http::kH2FlagEndHeaders) {
    return Frame(http::H2FrameType::kHeaders, flags, stream, Block(fields));
  }
  Wire& Connect(std::uint32_t stream, std::uint8_t flags = http::kH2FlagEndHeaders) {
    return Headers(stream, {{":method", "CONNECT"}, {":authority", "198.18.0.2:80"}}, flags);
  }
  // A header block of a coder that is used for this block only.
  static std::string Block(const std::vector<http::H2Field>& fields) {
    http::HpackEncoder encoder;
    std::vector<std::uint8_t> block;
    encoder.Encode(fields, block);
    return {block.begin(), block.end()};
  }

 private:
  std::vector<std::uint8_t> room_;
  std::vector<std::uint8_t> bytes_;
};

// MemoryOutput keeps what a multiplexer sends until it is taken.
class MemoryOutput final : public http::TunnelOutput {
 public:
  [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t least) override {
    bytes_.resize(used_ + least);
    return std::span(bytes_).subspan(used_);
  }
  void Commit(std::size_t count) override {
    used_ += count;
    bytes_.resize(used_);
  }
  [[nodiscard]] std::size_t Room() const override { return used_ >= limit ? 0 : limit - used_; }
  [[nodiscard]] std::vector<std::uint8_t> Take() {
    used_ = 0;
    return std::exchange(bytes_, {});
  }
  [[nodiscard]] std::size_t size() const { return used_; }

  std::size_t limit = std::size_t{1} << 20U;

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t used_ = 0;
};

// The frames in `bytes`, payloads whole; what follows an incomplete frame is left out.
struct SeenFrame {
  http::H2FrameHeader header;
  std::string payload;
};
inline std::vector<SeenFrame> FramesIn(Bytes bytes) {
  std::vector<SeenFrame> frames;
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
          .starts_with(http::kH2Preface)) {
    bytes = bytes.subspan(http::kH2Preface.size());
  }
  while (bytes.size() >= http::kH2FrameHeaderBytes) {
    const auto header = http::ParseFrameHeader(bytes.first<http::kH2FrameHeaderBytes>());
    bytes = bytes.subspan(http::kH2FrameHeaderBytes);
    const Bytes payload = bytes.first(std::min<std::size_t>(header.length, bytes.size()));
    frames.push_back({header, std::string(payload.begin(), payload.end())});
    bytes = bytes.subspan(payload.size());
  }
  return frames;
}
// The first frame of that type, if any.
inline std::optional<SeenFrame> FindFrame(Bytes bytes, http::H2FrameType type) {
  for (SeenFrame& frame : FramesIn(bytes)) {
    if (frame.header.type == type) {
      return std::move(frame);
    }
  }
  return std::nullopt;
}

class TunnelEnd;

// TestStream records what happens on a stream, and acts as the session would.
class TestStream final : public http::TunnelStreamHandler {
 public:
  explicit TestStream(TunnelEnd& owner) : end(owner) {}
  void OnAccepted(std::uint16_t status) noexcept override { accepted = status; }
  void OnRefused(std::uint16_t status, const http::H2FieldList& fields) noexcept override {
    refused = status;
    refusal_reason = fields.Find("x-reason").value_or("");
  }
  void OnData(Bytes bytes) noexcept override;
  void OnEnd() noexcept override {
    ++ends;
    if (on_end) {
      on_end();
    }
  }
  void OnReset(const http::TunnelStreamReset& how) noexcept override {
    ++resets;
    reset = how;
    if (on_reset) {
      on_reset();
    }
  }
  void OnWritable() noexcept override {
    ++writables;
    Pump();
  }
  // Gives the multiplexer what is to be sent, as far as it takes it.
  void Send(std::string_view bytes) {
    to_send.append(bytes);
    Pump();
  }
  void Pump();

  TunnelEnd& end;
  http::TunnelStreamId id = 0;
  std::uint16_t accepted = 0;
  std::string refusal_reason;
  std::uint16_t refused = 0;
  std::string received;
  std::uint64_t received_bytes = 0;
  bool keep_received = true;
  bool return_credit = true;
  std::string to_send;
  bool end_when_sent = false;
  int ends = 0;
  int resets = 0;
  int writables = 0;
  http::TunnelStreamReset reset;
  std::function<void()> on_data;
  std::function<void()> on_end;
  std::function<void()> on_reset;
};

// TunnelEnd is one multiplexer with its output and streams.
class TunnelEnd final : public http::TunnelMuxHandler {
 public:
  TunnelEnd(http::TunnelMuxConfig config, base::ManualClock& used_clock,
            std::uint64_t budget_bytes = std::uint64_t{1} << 30U)
      : clock(used_clock), budget(budget_bytes), mux(config, output, *this, budget) {
    mux.Start(clock.Now());
  }

  http::TunnelStreamHandler* OnStreamOpened(http::TunnelStreamId id,
                                            const http::TunnelRequest& request) noexcept override {
    authorities.emplace_back(request.authority);
    TestStream& stream = *streams.emplace_back(std::make_unique<TestStream>(*this));
    stream.id = id;
    if (on_opened) {
      on_opened(stream);
    } else {
      mux.Accept(id);
    }
    return &stream;
  }
  void OnStreamSlot() noexcept override { ++slots; }
  void OnGoAway(const http::TunnelGoAway& seen) noexcept override {
    ++goaways;
    goaway_last = seen.last_stream_id;
  }
  void OnConnectionError(http::H2Error code, http::TunnelViolation what) noexcept override {
    ++errors;
    error = code;
    violation = what;
  }

  TestStream& Open(std::string_view authority = "198.18.0.2:80") {
    TestStream& stream = *streams.emplace_back(std::make_unique<TestStream>(*this));
    const auto id = mux.OpenStream(authority, {}, stream);
    stream.id = id.value_or(0);
    if (!id) {
      open_error = id.error();
    }
    return stream;
  }
  void Receive(Bytes bytes) { mux.Receive(bytes, clock.Now()); }
  void Receive(const Wire& wire) { Receive(wire.bytes()); }
  void Return(const TestStream& stream, std::size_t count) {
    mux.ReturnCredit(stream.id, count, clock.Now());
  }
  TestStream& at(std::size_t index) { return *streams.at(index); }

  base::ManualClock& clock;
  MemoryOutput output;
  http::WindowBudget budget;
  http::TunnelMux mux;
  std::vector<std::unique_ptr<TestStream>> streams;
  std::vector<std::string> authorities;
  std::function<void(TestStream&)> on_opened;
  std::optional<http::OpenError> open_error;
  int slots = 0;
  int goaways = 0;
  http::TunnelStreamId goaway_last = 0;
  int errors = 0;
  http::H2Error error = http::H2Error::kNoError;
  http::TunnelViolation violation = http::TunnelViolation::kNone;
};

inline void TestStream::OnData(Bytes bytes) noexcept {
  received_bytes += bytes.size();
  if (keep_received) {
    received.append(bytes.begin(), bytes.end());
  }
  if (return_credit) {
    end.Return(*this, bytes.size());
  }
  if (on_data) {
    on_data();
  }
}

inline void TestStream::Pump() {
  if (!to_send.empty()) {
    to_send.erase(0, end.mux.Write(id, AsBytes(to_send)));
  }
  if (to_send.empty() && end_when_sent) {
    end_when_sent = false;
    end.mux.EndStream(id);
  }
}

// TunnelPair is a client and a server with a wire of no length between them.
class TunnelPair {
 public:
  explicit TunnelPair(http::TunnelMuxConfig client_config = {},
                      http::TunnelMuxConfig server_config = {})
      : client(WithRole(client_config, http::TunnelRole::kClient), clock),
        server(WithRole(server_config, http::TunnelRole::kServer), clock) {}

  // One exchange of what is in the outputs, in pieces of at most `piece` bytes.
  bool Exchange(std::size_t piece = SIZE_MAX) {
    const bool any = client.output.size() + server.output.size() > 0;
    Carry(client, server, piece);
    Carry(server, client, piece);
    return any;
  }
  // Exchanges until nothing is left; false if there is no end to it.
  bool Pump(int most_turns = 100000, std::size_t piece = SIZE_MAX) {
    while (Exchange(piece)) {
      clock.Advance(std::chrono::microseconds(100));
      if (--most_turns == 0) {
        return false;
      }
    }
    return true;
  }

  base::ManualClock clock;
  TunnelEnd client;
  TunnelEnd server;

 private:
  static http::TunnelMuxConfig WithRole(http::TunnelMuxConfig config, http::TunnelRole role) {
    config.role = role;
    return config;
  }
  static void Carry(TunnelEnd& from, TunnelEnd& to, std::size_t piece) {
    const std::vector<std::uint8_t> sent = from.output.Take();
    for (std::size_t at = 0; at < sent.size(); at += std::min(piece, sent.size() - at)) {
      to.Receive(Bytes(sent).subspan(at, std::min(piece, sent.size() - at)));
    }
    if (!sent.empty()) {
      from.mux.OnOutputDrained(from.clock.Now());
    }
  }
};

// `count` bytes that differ from place to place.
inline std::string Pattern(std::size_t count, std::uint32_t seed = 1) {
  std::string text(count, '\0');
  std::uint32_t state = seed * 2654435761U + 1;
  for (char& c : text) {
    state = state * 1664525U + 1013904223U;
    c = static_cast<char>(state >> 24U);
  }
  return text;
}

}  // namespace weir::test
