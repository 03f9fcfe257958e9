#include "agent/observe/finish.h"

#include <algorithm>
#include <utility>

namespace weir::observe {
namespace {

// Bytes of the UTF-8 character that `text` begins with (RFC 3629: shortest forms only, no
// surrogates, nothing above U+10FFFF); 0 if it begins with none.
std::size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  std::size_t size = 0;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    size = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    size = 3;
    low = first == 0xe0 ? 0xa0 : low;
    high = first == 0xed ? 0x9f : high;
  } else if (first >= 0xf0 && first <= 0xf4) {
    size = 4;
    low = first == 0xf0 ? 0x90 : low;
    high = first == 0xf4 ? 0x8f : high;
  }
  if (size == 0 || text.size() < size || byte(1) < low || byte(1) > high) {
    return 0;
  }
  for (std::size_t i = 2; i < size; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) {
      return 0;
    }
  }
  return size;
}

// What the connection's verdict becomes for a request that ended with `reason`. A caller
// that gave up is nobody's error.
Verdict RequestVerdict(Verdict connection, Reason reason) {
  if (reason == Reason::kNone || reason == Reason::kDownstreamReset) {
    return connection;
  }
  return reason == Reason::kPolicyDenied ? Verdict::kDeny : Verdict::kError;
}

}  // namespace

std::string CleanText(std::string_view text, std::size_t limit_bytes) {
  const std::string_view head = text.substr(0, limit_bytes);
  if (std::all_of(head.begin(), head.end(), [](char c) { return (c & 0x80) == 0; })) {
    return std::string(head);
  }
  std::string clean;
  clean.reserve(head.size());
  while (!text.empty()) {
    const std::size_t bytes = CharacterBytes(text);
    const std::size_t taken = std::max<std::size_t>(bytes, 1);
    if (clean.size() + taken > limit_bytes) {
      break;
    }
    if (bytes == 0) {
      clean += '?';
    } else {
      clean += text.substr(0, bytes);
    }
    text.remove_prefix(taken);
  }
  return clean;
}

std::string RedactQuery(std::string_view query, bool keep_values, std::size_t limit_bytes) {
  if (keep_values) {
    return CleanText(query, limit_bytes);
  }
  std::string keys;
  // Not more than what can be shown: a query can be as long as a request line.
  while (!query.empty() && keys.size() <= limit_bytes) {
    const std::size_t pair_end = query.find('&');
    const std::string_view pair = query.substr(0, pair_end);
    if (const std::string_view key = pair.substr(0, pair.find('=')); !key.empty()) {
      if (!keys.empty()) {
        keys += '&';
      }
      keys += key;
    }
    query = pair_end == std::string_view::npos ? std::string_view() : query.substr(pair_end + 1);
  }
  return CleanText(keys, limit_bytes);
}

Record FinishRequest(const Flow& connection, const ExchangeResult& exchange,
                     std::shared_ptr<const model::LocalWorkload> local) {
  const bool is_client = connection.direction == Direction::kOutbound;
  const SpanId& span_id = is_client ? exchange.client_span_id : exchange.server_span_id;
  Record record{.flow = connection, .span = std::nullopt, .local = std::move(local)};
  Flow& flow = record.flow;
  flow.protocol = Protocol::kHttp1;
  flow.is_request = true;
  flow.verdict = RequestVerdict(connection.verdict, exchange.reason);
  flow.reason = exchange.reason;
  flow.http = exchange.http;
  flow.bytes_sent = exchange.bytes_sent;
  flow.bytes_received = exchange.bytes_received;
  flow.timing.start = exchange.timing.start;
  flow.timing.total = exchange.timing.total;
  flow.timing.first_byte = exchange.timing.first_byte;
  flow.parent_source = exchange.parent_source;
  flow.trace_id = exchange.trace_id;
  flow.span_id = span_id;
  flow.sampled = exchange.sampled() && span_id != SpanId{};
  if (!flow.sampled) {
    return record;
  }
  // Joined on one node, the CLIENT span is the SERVER span's parent.
  const bool below_client = !is_client && exchange.client_span_id != SpanId{};
  record.span = Span{
      .trace_id = exchange.trace_id,
      .span_id = span_id,
      .parent_span_id = below_client ? exchange.client_span_id : exchange.parent_span_id,
      .parent_is_remote = false,
      .trace_flags = exchange.trace_flags,
      .trace_state = exchange.trace_state,
      .is_client = is_client,
      .parent_source = below_client ? ParentSource::kHeader : exchange.parent_source,
  };
  record.span->parent_is_remote = !is_client && record.span->parent_span_id != SpanId{};
  flow.parent_source = record.span->parent_source;
  return record;
}

}  // namespace weir::observe
