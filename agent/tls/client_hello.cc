#include "agent/tls/client_hello.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace weir::tls {
namespace {

constexpr std::uint8_t kHandshakeRecord = 22;       // RFC 8446 section 5.1
constexpr std::uint8_t kClientHelloMessage = 1;     // RFC 8446 section 4
constexpr std::uint8_t kMaxRecordMinorVersion = 3;  // 0x0300 to 0x0303 are seen in the wild
constexpr std::size_t kRecordHeaderBytes = 5;
constexpr std::size_t kMessageHeaderBytes = 4;
constexpr std::size_t kMaxFragmentBytes = 16384;  // RFC 8446 section 5.1
constexpr std::size_t kRandomBytes = 32;
constexpr std::size_t kMaxHostNameBytes = 255;
constexpr std::uint16_t kServerNameExtension = 0;  // RFC 6066
constexpr std::uint16_t kAlpnExtension = 16;       // RFC 7301
constexpr std::uint8_t kHostNameType = 0;

// Takes length-prefixed parts from the front of a byte range; empty when too short.
class Reader {
 public:
  explicit Reader(io::Bytes bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  std::optional<io::Bytes> Take(std::size_t count) {
    if (bytes_.size() < count) {
      return std::nullopt;
    }
    const io::Bytes taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  std::optional<std::size_t> Number(std::size_t width) {
    const auto raw = Take(width);
    if (!raw) {
      return std::nullopt;
    }
    std::size_t value = 0;
    for (const std::uint8_t byte : *raw) {
      value = value << 8U | byte;
    }
    return value;
  }
  // A vector whose length stands in `width` bytes before it.
  std::optional<Reader> Vector(std::size_t width) {
    const auto length = Number(width);
    if (!length) {
      return std::nullopt;
    }
    const auto content = Take(*length);
    return content ? std::optional(Reader(*content)) : std::nullopt;
  }
  [[nodiscard]] io::Bytes rest() const { return bytes_; }

 private:
  io::Bytes bytes_;
};

std::string Text(io::Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

bool ReadServerName(Reader extension, ClientHello& hello) {
  auto list = extension.Vector(2);
  if (!list || !extension.empty() || list->empty()) {
    return false;
  }
  while (!list->empty()) {
    const auto type = list->Number(1);
    const auto name = type ? list->Vector(2) : std::nullopt;
    if (!name) {
      return false;
    }
    if (*type != kHostNameType) {
      continue;
    }
    const io::Bytes host = name->rest();
    const auto printable = [](std::uint8_t c) { return c > 0x20 && c < 0x7f; };
    if (!hello.server_name.empty() || host.empty() || host.size() > kMaxHostNameBytes ||
        !std::ranges::all_of(host, printable)) {
      return false;
    }
    hello.server_name = Text(host);
  }
  return true;
}

bool ReadAlpn(Reader extension, ClientHello& hello) {
  auto list = extension.Vector(2);
  if (!list || !extension.empty() || list->empty()) {
    return false;
  }
  while (!list->empty()) {
    const auto name = list->Vector(1);
    if (!name || name->empty()) {
      return false;
    }
    hello.alpn.push_back(Text(name->rest()));
  }
  return true;
}

bool ReadExtensions(Reader extensions, ClientHello& hello) {
  bool seen_name = false;
  bool seen_alpn = false;
  while (!extensions.empty()) {
    const auto type = extensions.Number(2);
    const auto content = type ? extensions.Vector(2) : std::nullopt;
    if (!content) {
      return false;
    }
    if (*type == kServerNameExtension) {
      if (std::exchange(seen_name, true) || !ReadServerName(*content, hello)) {
        return false;
      }
    } else if (*type == kAlpnExtension) {
      if (std::exchange(seen_alpn, true) || !ReadAlpn(*content, hello)) {
        return false;
      }
    }
  }
  return true;
}

// `body` is the message after its 4-byte header.
bool ReadBody(io::Bytes body, ClientHello& hello) {
  Reader reader(body);
  const bool fixed = reader.Take(2 + kRandomBytes).has_value();  // legacy_version, random
  const auto session_id = fixed ? reader.Vector(1) : std::nullopt;
  const auto suites = session_id ? reader.Vector(2) : std::nullopt;
  const auto compression = suites ? reader.Vector(1) : std::nullopt;
  if (!compression || suites->empty() || compression->empty()) {
    return false;
  }
  if (reader.empty()) {
    return true;  // a TLS 1.2 hello may have no extensions
  }
  const auto extensions = reader.Vector(2);
  return extensions && reader.empty() && ReadExtensions(*extensions, hello);
}

// How far the bytes are from a whole ClientHello message.
struct Gathered {
  HelloStatus status = HelloStatus::kNeedMore;
  std::vector<std::uint8_t> joined;  // only used if the message spans records
  io::Bytes message;
};

// What is wrong with the bytes at the front of a record, as far as they go.
bool CanBeRecord(io::Bytes bytes) {
  if (bytes[0] != kHandshakeRecord || (bytes.size() > 1 && bytes[1] != 3) ||
      (bytes.size() > 2 && bytes[2] > kMaxRecordMinorVersion)) {
    return false;
  }
  if (bytes.size() < kRecordHeaderBytes) {
    return true;
  }
  const std::size_t length = std::size_t{bytes[3]} << 8U | bytes[4];
  return length > 0 && length <= kMaxFragmentBytes;
}

// Looks for the end of the message over records without copying, so that a hello that
// trickles in is cheap to look at again.
Gathered FindMessage(io::Bytes bytes) {
  Gathered result;
  std::size_t message_bytes = kMessageHeaderBytes;  // until its header has been seen
  std::array<std::uint8_t, kMessageHeaderBytes> header{};
  std::size_t have = 0;
  std::vector<io::Bytes> fragments;
  io::Bytes left = bytes;
  while (have < message_bytes) {
    if (left.empty()) {
      result.status = bytes.size() >= kMaxClientHelloWireBytes ? HelloStatus::kMalformed
                                                               : HelloStatus::kNeedMore;
      return result;
    }
    if (!CanBeRecord(left)) {
      result.status = fragments.empty() ? HelloStatus::kNotTls : HelloStatus::kMalformed;
      return result;
    }
    if (left.size() < kRecordHeaderBytes) {
      left = {};
      continue;
    }
    const std::size_t length = std::size_t{left[3]} << 8U | left[4];
    const io::Bytes fragment =
        left.subspan(kRecordHeaderBytes, std::min(length, left.size() - kRecordHeaderBytes));
    left = left.subspan(kRecordHeaderBytes + fragment.size());
    for (std::size_t i = 0; i < fragment.size() && have + i < kMessageHeaderBytes; ++i) {
      header[have + i] = fragment[i];
    }
    have += fragment.size();
    if (!fragment.empty()) {
      fragments.push_back(fragment);
    }
    if (have > 0 && header[0] != kClientHelloMessage) {
      result.status = HelloStatus::kNotTls;
      return result;
    }
    if (have >= kMessageHeaderBytes) {
      message_bytes = kMessageHeaderBytes +
                      (std::size_t{header[1]} << 16U | std::size_t{header[2]} << 8U | header[3]);
      if (message_bytes > kMaxClientHelloBytes) {
        result.status = HelloStatus::kMalformed;
        return result;
      }
    }
  }
  result.status = HelloStatus::kClientHello;
  if (fragments.size() == 1) {
    result.message = fragments.front().first(message_bytes);
    return result;
  }
  for (const io::Bytes fragment : fragments) {
    result.joined.insert(result.joined.end(), fragment.begin(), fragment.end());
  }
  result.message = io::Bytes(result.joined).first(message_bytes);
  return result;
}

}  // namespace

ClientHello ParseClientHello(io::Bytes bytes) {
  ClientHello hello;
  const Gathered gathered = FindMessage(bytes);
  hello.status = gathered.status;
  if (gathered.status == HelloStatus::kClientHello &&
      !ReadBody(gathered.message.subspan(kMessageHeaderBytes), hello)) {
    hello = ClientHello{.status = HelloStatus::kMalformed, .server_name = {}, .alpn = {}};
  }
  return hello;
}

bool OffersAlpn(const ClientHello& hello, std::string_view name) {
  return std::ranges::find(hello.alpn, name) != hello.alpn.end();
}

}  // namespace weir::tls
