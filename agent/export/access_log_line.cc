#include "agent/export/access_log_line.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "agent/base/utf8.h"
#include "agent/export/party_name.h"
#include "agent/observe/finish.h"

namespace weir::telemetry {
namespace {

using model::LogOperator;
using model::LogPiece;
using observe::Direction;
using observe::Flow;
using observe::Record;

constexpr std::string_view kHexDigits = "0123456789abcdef";

enum class ValueKind : std::uint8_t { kAbsent, kText, kNumber };

ValueKind Text(std::string_view value, std::string& out) {
  out += value;
  return value.empty() ? ValueKind::kAbsent : ValueKind::kText;
}

ValueKind Number(std::uint64_t value, std::string& out) {
  out += std::to_string(value);
  return ValueKind::kNumber;
}

ValueKind Milliseconds(base::Nanoseconds duration, std::string& out) {
  if (duration.count() < 0) {
    return ValueKind::kAbsent;
  }
  return Number(static_cast<std::uint64_t>(
                    std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()),
                out);
}

template <typename Id>
ValueKind TraceText(const Id& id, std::string& out) {
  return id == Id{} ? ValueKind::kAbsent : Text(observe::ToHex(id), out);
}

ValueKind Service(const observe::Party& party, std::string& out) {
  if (party.workload == nullptr) {
    return ValueKind::kAbsent;
  }
  const auto tag = party.workload->labels.find("kuma.io/service");
  if (tag != party.workload->labels.end()) {
    return Text(tag->second, out);
  }
  AppendPartyName(party, {}, out);
  return ValueKind::kText;
}

ValueKind Label(const Record& record, const std::string& name, std::string& out) {
  if (record.local == nullptr || record.local->workload == nullptr) {
    return ValueKind::kAbsent;
  }
  const auto found = record.local->workload->labels.find(name);
  return found == record.local->workload->labels.end() ? ValueKind::kAbsent
                                                       : Text(found->second, out);
}

ValueKind Workload(const Record& record, std::string& out) {
  const ValueKind label = Label(record, "kuma.io/workload", out);
  const bool has_name = record.local != nullptr && record.local->workload != nullptr;
  return label == ValueKind::kAbsent && has_name ? Text(record.local->workload->name, out) : label;
}

// The SPIFFE id that `party` proved or was proved to: none without mutual TLS.
ValueKind Identity(const Flow& flow, const observe::Party& party, Direction seen,
                   std::string& out) {
  if (flow.direction != seen || flow.mtls == observe::MtlsState::kOff ||
      party.workload == nullptr) {
    return ValueKind::kAbsent;
  }
  return Text(party.workload->identity.uri(), out);
}

std::string_view ProtocolName(const Flow& flow) {
  if (!flow.http) {
    return {};
  }
  if (flow.http->version_major == 2) {
    return "HTTP/2";
  }
  return flow.http->version_minor == 0 ? "HTTP/1.0" : "HTTP/1.1";
}

ValueKind TraceParent(const Flow& flow, std::string& out) {
  if (flow.trace_id == observe::TraceId{}) {
    return ValueKind::kAbsent;
  }
  return Text("00-" + observe::ToHex(flow.trace_id) + "-" + observe::ToHex(flow.span_id) +
                  (flow.sampled ? "-01" : "-00"),
              out);
}

ValueKind RequestHeader(std::string_view name, const Flow& flow, std::string& out) {
  if (!flow.http) {
    return ValueKind::kAbsent;
  }
  const observe::HttpExchange& http = *flow.http;
  if (name == ":method") {
    return Text(http.method, out);
  }
  if (name == ":path") {
    return Text(http.path, out);
  }
  if (name == ":authority" || name == "host") {
    return Text(http.host, out);
  }
  if (name == ":scheme" || name == "x-forwarded-proto") {
    const bool is_sent = name == "x-forwarded-proto" || !http.forwarded_scheme.empty();
    return Text(is_sent ? std::string_view(http.forwarded_scheme) : "http", out);
  }
  if (name == "user-agent") {
    return Text(http.user_agent, out);
  }
  if (name == "x-forwarded-for") {
    return Text(http.forwarded_client, out);
  }
  if (name == "x-forwarded-host") {
    return Text(http.forwarded_host, out);
  }
  if (name == "traceparent") {
    return TraceParent(flow, out);
  }
  if (name == "x-b3-traceid") {
    return TraceText(flow.trace_id, out);
  }
  return name == "x-b3-spanid" ? TraceText(flow.span_id, out) : ValueKind::kAbsent;
}

ValueKind ResponseHeader(std::string_view name, const Flow& flow, std::string& out) {
  if (name == ":status" && flow.http && flow.http->status != 0) {
    return Number(flow.http->status, out);
  }
  return name == "x-envoy-upstream-service-time" && flow.http
             ? Milliseconds(flow.timing.first_byte, out)
             : ValueKind::kAbsent;
}

ValueKind Header(const LogPiece& piece, const Flow& flow, std::string& out) {
  const auto take = piece.op == LogOperator::kRequestHeader ? RequestHeader : ResponseHeader;
  const ValueKind kind = take(piece.text, flow, out);
  return kind == ValueKind::kAbsent ? take(piece.alternative, flow, out) : kind;
}

ValueKind CodeDetails(const Flow& flow, std::string& out) {
  if (flow.reason != observe::Reason::kNone) {
    return Text(observe::ToString(flow.reason), out);
  }
  return flow.http && flow.http->status != 0 ? Text("via_upstream", out) : ValueKind::kAbsent;
}

std::string_view TlsVersion(const Flow& flow) {
  if (flow.direction != Direction::kInbound) {
    return {};
  }
  return flow.tls_version == 0x0304 ? "TLSv1.3" : flow.tls_version == 0x0303 ? "TLSv1.2" : "";
}

// The value of an operator, appended to `out`, which stays as it is when there is none. One
// case an operator. NOLINTNEXTLINE(readability-function-size)
ValueKind AppendValue(const LogPiece& piece, const Record& record, std::string_view node,
                      std::string& out) {
  const Flow& flow = record.flow;
  switch (piece.op) {
    case LogOperator::kLiteral:
      return Text(piece.text, out);
    case LogOperator::kStartTime:
      AppendTime(flow.timing.start, piece.text, out);
      return ValueKind::kText;
    case LogOperator::kRequestHeader:
    case LogOperator::kResponseHeader:
      return Header(piece, flow, out);
    case LogOperator::kProtocol:
      return Text(ProtocolName(flow), out);
    case LogOperator::kResponseCode:
      return Number(flow.http ? flow.http->status : 0U, out);
    case LogOperator::kResponseCodeDetails:
      return CodeDetails(flow, out);
    case LogOperator::kResponseFlags:
      return Text(ResponseFlag(flow.reason), out);
    case LogOperator::kBytesReceived:
      return Number(flow.bytes_sent, out);  // a flow counts as its upstream sees it
    case LogOperator::kBytesSent:
      return Number(flow.bytes_received, out);
    case LogOperator::kDuration:
      return Milliseconds(flow.timing.total, out);
    case LogOperator::kRequestDuration:
      return ValueKind::kAbsent;
    case LogOperator::kResponseDuration:
      return Milliseconds(flow.timing.first_byte, out);
    case LogOperator::kTraceId:
      return TraceText(flow.trace_id, out);
    case LogOperator::kSpanId:
      return TraceText(flow.span_id, out);
    case LogOperator::kDownstreamPeerUriSan:
      return Identity(flow, flow.source, Direction::kInbound, out);
    case LogOperator::kDownstreamLocalUriSan:
      return Identity(flow, flow.destination, Direction::kInbound, out);
    case LogOperator::kUpstreamPeerUriSan:
      return Identity(flow, flow.destination, Direction::kOutbound, out);
    case LogOperator::kDestinationAddress:
      return Text(flow.destination.endpoint.ToString(), out);
    case LogOperator::kSourceAddress:
      return Text(flow.source.endpoint.ToString(), out);
    case LogOperator::kSourceIp:
      return Text(flow.source.endpoint.address.ToString(), out);
    case LogOperator::kRequestedServerName:
      return Text(flow.sni, out);
    case LogOperator::kDownstreamTlsVersion:
      return Text(TlsVersion(flow), out);
    case LogOperator::kConnectionId:
      return Number(flow.connection_id, out);
    case LogOperator::kHostname:
      return Text(node, out);
    case LogOperator::kKumaSourceService:
      return Service(flow.source, out);
    case LogOperator::kKumaDestinationService:
      return Service(flow.destination, out);
    case LogOperator::kKumaTrafficDirection:
      return Text(flow.direction == Direction::kInbound ? "INBOUND" : "OUTBOUND", out);
    case LogOperator::kKumaZone:
      return Label(record, "kuma.io/zone", out);
    case LogOperator::kKumaWorkload:
      return Workload(record, out);
  }
  return ValueKind::kAbsent;
}

// The value of one operator within the limits, in `out`, which is emptied first.
ValueKind TakeValue(const LogPiece& piece, const Record& record, std::string_view node,
                    std::string& out) {
  out.clear();
  const ValueKind kind = AppendValue(piece, record, node, out);
  const std::size_t limit = piece.limit_bytes == 0
                                ? model::kMaxLogValueBytes
                                : std::min(piece.limit_bytes, model::kMaxLogValueBytes);
  if (piece.op != LogOperator::kLiteral && out.size() > limit) {
    std::size_t end = limit;  // on a character border; the format's own limit marks nothing
    while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0U) == 0x80U) {
      --end;
    }
    out.resize(end);
  }
  return kind;
}

void AppendEscaped(std::string_view value, std::string& out) {
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      out += "\\x";
      out += kHexDigits[byte >> 4U];
      out += kHexDigits[byte & 0xfU];
    } else {
      out += c;
    }
  }
}

void AppendPlain(const model::LogFormat& format, const Record& record, std::string_view node,
                 std::string& out) {
  std::string value;
  for (const LogPiece& piece : format.plain.pieces) {
    if (piece.op == LogOperator::kLiteral) {
      out += piece.text;
    } else if (TakeValue(piece, record, node, value) != ValueKind::kAbsent) {
      AppendEscaped(value, out);
    } else if (!format.omit_empty) {
      out += '-';
    }
  }
}

// One field's value; false when it is absent.
bool AppendJsonValue(const model::LogText& text, const Record& record, std::string_view node,
                     std::string& out) {
  std::string value;
  if (text.pieces.size() == 1) {
    switch (TakeValue(text.pieces.front(), record, node, value)) {
      case ValueKind::kAbsent:
        out += "null";
        return false;
      case ValueKind::kText:
        AppendJsonText(value, out);
        return true;
      case ValueKind::kNumber:
        out += value;
        return true;
    }
  }
  std::string whole;
  AppendLogText(text, record, node, whole);
  AppendJsonText(whole, out);
  return !whole.empty();
}

}  // namespace

bool IsLogged(const Flow& flow) {
  const bool is_http = flow.protocol == observe::Protocol::kHttp1 ||
                       flow.protocol == observe::Protocol::kHttp2 ||
                       flow.protocol == observe::Protocol::kGrpc;
  return flow.is_request || !is_http || flow.reason != observe::Reason::kNone;
}

void AppendLogLine(const model::LogFormat& format, const Record& record, std::string_view node,
                   std::string& out) {
  if (!format.is_json) {
    AppendPlain(format, record, node, out);
    out += '\n';
    return;
  }
  char before = '{';
  for (const auto& [name, text] : format.fields) {
    const std::size_t begin = out.size();
    out += before;
    AppendJsonText(name, out);
    out += ':';
    if (AppendJsonValue(text, record, node, out) || !format.omit_empty) {
      before = ',';
    } else {
      out.resize(begin);
    }
  }
  out += before == '{' ? "{}\n" : "}\n";
}

void AppendLogText(const model::LogText& text, const Record& record, std::string_view node,
                   std::string& out) {
  std::string value;
  for (const LogPiece& piece : text.pieces) {
    out += TakeValue(piece, record, node, value) == ValueKind::kAbsent ? "-" : value;
  }
}

void AppendJsonText(std::string_view text, std::string& out) {
  std::string scratch;
  out += '"';
  for (const char c : base::ToUtf8(text, scratch)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kHexDigits[byte >> 4U];
      out += kHexDigits[byte & 0xfU];
    } else {
      out += c;
    }
  }
  out += '"';
}

void AppendTime(base::WallTime time, std::string_view format, std::string& out) {
  if (format.empty()) {
    format = "%Y-%m-%dT%H:%M:%S.%3fZ";
  }
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  std::string fraction = std::to_string((since - seconds).count() + 1'000'000'000);
  fraction.erase(0, 1);
  const auto stamp = static_cast<std::time_t>(seconds.count());
  std::tm parts{};
  (void)::gmtime_r(&stamp, &parts);  // fails only beyond the year 2^31
  for (std::size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 == format.size()) {
      out += format[at];
      continue;
    }
    const char specifier = format[++at];
    if (specifier == 'f') {
      out += fraction;
    } else if (specifier >= '1' && specifier <= '9') {
      out += std::string_view(fraction).substr(0, static_cast<std::size_t>(specifier - '0'));
      ++at;  // its 'f'
    } else if (specifier == 's') {
      out += std::to_string(seconds.count());
    } else {
      char text[64];
      const char one[] = {'%', specifier, '\0'};
      out += std::string_view(text, std::strftime(text, sizeof(text), one, &parts));
    }
  }
}

}  // namespace weir::telemetry
