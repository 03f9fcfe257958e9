#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/http/h2_relay.h"
#include "tests/support/tunnel_rig.h"

namespace weir::test {

// What arrives at one end: the frames, with header blocks decoded as that end would.
class FrameLog final : public http::ByteSink {
 public:
  [[nodiscard]] std::span<std::uint8_t> Prepare(std::size_t least) override {
    bytes_.resize(used_ + least);
    return std::span(bytes_).subspan(used_);
  }
  void Commit(std::size_t count) override {
    used_ += count;
    bytes_.resize(used_);
  }
  void Append(Bytes bytes) {
    std::ranges::copy(bytes, Prepare(bytes.size()).begin());
    Commit(bytes.size());
  }
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }
  [[nodiscard]] std::vector<SeenFrame> frames() const { return FramesIn(bytes_); }
  [[nodiscard]] std::vector<SeenFrame> Frames(http::H2FrameType type) const {
    std::vector<SeenFrame> found;
    for (const SeenFrame& frame : frames()) {
      if (frame.header.type == type) {
        found.push_back(frame);
      }
    }
    return found;
  }
  // All frames but HEADERS and CONTINUATION, as bytes.
  [[nodiscard]] std::string WithoutHeaderBlocks() const { return Strip(bytes_); }
  static std::string Strip(Bytes bytes) {
    std::string rest;
    if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
            .starts_with(http::kH2Preface)) {
      rest = http::kH2Preface;
      bytes = bytes.subspan(rest.size());
    }
    while (bytes.size() >= http::kH2FrameHeaderBytes) {
      const auto header = http::ParseFrameHeader(bytes.first<http::kH2FrameHeaderBytes>());
      const Bytes frame =
          bytes.first(std::min(bytes.size(), http::kH2FrameHeaderBytes + header.length));
      if (header.type != http::H2FrameType::kHeaders &&
          header.type != http::H2FrameType::kContinuation) {
        rest.append(frame.begin(), frame.end());
      }
      bytes = bytes.subspan(frame.size());
    }
    return rest;
  }
  // The header lists, one text per block: "STREAM name=value name=value!" with a mark behind
  // what must never be indexed and " END" where the stream ends.
  [[nodiscard]] std::vector<std::string> Lists(std::uint32_t table_bytes = 4096) const {
    std::vector<std::string> lists;
    http::HpackDecoder decoder({.max_list_bytes = UINT32_MAX, .max_fields = UINT32_MAX});
    if (table_bytes != http::kH2DefaultHeaderTableBytes) {
      decoder.OnSettingsAcknowledged(table_bytes);
    }
    std::string block;
    std::string text;
    for (const SeenFrame& frame : frames()) {
      if (frame.header.type == http::H2FrameType::kHeaders) {
        block = frame.payload.substr(frame.header.Has(http::kH2FlagPriority) ? 5 : 0);
        text = std::to_string(frame.header.stream_id);
        text += frame.header.Has(http::kH2FlagEndStream) ? " END" : "";
      } else if (frame.header.type == http::H2FrameType::kContinuation) {
        block += frame.payload;
      } else {
        continue;
      }
      if (frame.header.Has(http::kH2FlagEndHeaders)) {
        http::H2FieldList fields;
        if (!decoder.Decode(AsBytes(block), fields)) {
          lists.emplace_back("undecodable");
          return lists;
        }
        for (std::size_t i = 0; i < fields.size(); ++i) {
          text += ' ';
          text += fields[i].name;
          text += '=';
          text += fields[i].value;
          text += fields[i].never_indexed ? "!" : "";
        }
        lists.push_back(text);
      }
    }
    return lists;
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t used_ = 0;
};

// One relay, its two ends' views, and what its handler was told.
class H2RelayRig final : public http::H2RelayHandler {
 public:
  explicit H2RelayRig(const http::H2RelayLimits& limits = {}) : relay(limits, scratch_, *this) {}

  void Client(Bytes bytes) { Feed(http::H2Side::kClient, bytes); }
  void Server(Bytes bytes) { Feed(http::H2Side::kServer, bytes); }
  void Client(const Wire& wire) { Client(Bytes(wire.bytes())); }
  void Server(const Wire& wire) { Server(Bytes(wire.bytes())); }
  void Feed(http::H2Side from, Bytes bytes) {
    FrameLog& log = from == http::H2Side::kClient ? to_server : to_client;
    log.Append(relay.Receive(from, bytes, clock.Now(), out()));
  }
  // The usual beginning: both prefaces, acknowledged.
  void Begin() {
    Client(Wire().Preface().Settings({{http::H2Setting::kEnablePush, 0}}));
    Server(Wire().Settings({{http::H2Setting::kMaxConcurrentStreams, 100}}).SettingsAck());
    Client(Wire().SettingsAck());
  }
  http::H2Relay::Output out() { return {.to_server = to_server, .to_client = to_client}; }

  http::H2Admission OnRequest(std::uint32_t id, const http::H2RequestHead& head,
                              std::vector<http::H2Field>& fields) noexcept override {
    Note("request", id) += ' ' + std::string(head.method) + ' ' + std::string(head.path);
    for (const auto& [name, value] : added) {
      fields.push_back({.name = name, .value = value, .never_indexed = true});
    }
    ++open;
    return refuse ? http::H2Admission::kRefuse : http::H2Admission::kPass;
  }
  void OnRejected(http::H2Reject why, const http::H2RequestHead& head) noexcept override {
    Note("rejected", static_cast<std::uint32_t>(why)) += ' ' + std::string(head.path);
  }
  void OnResponse(std::uint32_t id, const http::H2ResponseHead& head) noexcept override {
    Note("response", id) += ' ' + std::to_string(head.status);
  }
  void OnTrailers(std::uint32_t id, const http::H2FieldList& fields) noexcept override {
    Note("trailers", id) += ' ' + std::string(fields.Find("grpc-status").value_or("-"));
  }
  void OnStreamEnd(std::uint32_t id, const http::H2StreamEnd& end) noexcept override {
    static constexpr std::array<const char*, 4> kBy = {"both", "client", "server", "relay"};
    Note("end", id) += std::string(" ") + kBy.at(static_cast<std::size_t>(end.by)) + ' ' +
                       std::to_string(static_cast<std::uint32_t>(end.code));
    ends[id] = end;
    --open;
  }

  base::ManualClock clock;
  FrameLog to_server;
  FrameLog to_client;
  std::vector<std::string> notes;
  std::map<std::uint32_t, http::H2StreamEnd> ends;
  std::map<std::string, std::string> added;  // fields put behind each request
  bool refuse = false;
  int open = 0;

 private:
  std::string& Note(const char* what, std::uint32_t id) {
    return notes.emplace_back(std::string(what) + ' ' + std::to_string(id));
  }
  http::H2RelayScratch scratch_;

 public:
  http::H2Relay relay;
};

// A good request's fields.
inline std::vector<http::H2Field> RequestFields(std::string_view path = "/") {
  return {{":method", "GET"}, {":scheme", "http"}, {":path", path}, {":authority", "back:80"}};
}

}  // namespace weir::test
