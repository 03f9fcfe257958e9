#include "agent/observe/finish.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/model/snapshot.h"
#include "agent/observe/error_type.h"
#include "agent/observe/record.h"

namespace weir::observe {
namespace {

// RFC 3629 section 4: how long a character is by its first byte, and between what its
// second byte must be. That leaves out longer forms than needed, surrogates, and what is
// above U+10FFFF.
struct CharacterForm {
  std::uint8_t first_from;
  std::uint8_t first_to;
  std::uint8_t size;
  std::uint8_t second_from;
  std::uint8_t second_to;
};
constexpr std::array<CharacterForm, 8> kForms = {{
    {.first_from = 0xc2, .first_to = 0xdf, .size = 2, .second_from = 0x80, .second_to = 0xbf},
    {.first_from = 0xe0, .first_to = 0xe0, .size = 3, .second_from = 0xa0, .second_to = 0xbf},
    {.first_from = 0xe1, .first_to = 0xec, .size = 3, .second_from = 0x80, .second_to = 0xbf},
    {.first_from = 0xed, .first_to = 0xed, .size = 3, .second_from = 0x80, .second_to = 0x9f},
    {.first_from = 0xee, .first_to = 0xef, .size = 3, .second_from = 0x80, .second_to = 0xbf},
    {.first_from = 0xf0, .first_to = 0xf0, .size = 4, .second_from = 0x90, .second_to = 0xbf},
    {.first_from = 0xf1, .first_to = 0xf3, .size = 4, .second_from = 0x80, .second_to = 0xbf},
    {.first_from = 0xf4, .first_to = 0xf4, .size = 4, .second_from = 0x80, .second_to = 0x8f},
}};

constexpr std::string_view kCutMark = "\xe2\x80\xa6";  // an ellipsis

// Parameters whose values are signatures or keys (semantic conventions, url.full and url.query).
constexpr std::array<std::string_view, 7> kSecretKeys = {
    "AWSAccessKeyId",   "Signature",           "sig", "X-Goog-Signature", "X-Amz-Signature",
    "X-Amz-Credential", "X-Amz-Security-Token"};

// Bytes of the UTF-8 character that `text` (not empty) begins with; 0 if it begins with none.
std::size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  if (byte(0) < 0x80) {
    return 1;
  }
  const auto* const form = std::ranges::find_if(kForms, [&](const CharacterForm& one) {
    return byte(0) >= one.first_from && byte(0) <= one.first_to;
  });
  if (form == kForms.end() || text.size() < form->size || byte(1) < form->second_from ||
      byte(1) > form->second_to) {
    return 0;
  }
  const std::string_view rest = text.substr(2, form->size - std::size_t{2});
  const bool whole = std::ranges::all_of(rest, [](char c) { return (c & 0xc0) == 0x80; });
  return whole ? form->size : 0;
}

// What the connection's verdict becomes for a request that ended with `reason`. A caller
// that gave up is nobody's error.
Verdict RequestVerdict(Verdict connection, Reason reason) {
  if (reason == Reason::kNone || reason == Reason::kDownstreamReset) {
    return connection;
  }
  return IsRefusal(reason) ? Verdict::kDeny : Verdict::kError;
}

// Why the request has a span; none if it gets none.
std::optional<SampledBy> Sample(const Flow& flow, const ExchangeResult& exchange,
                                const model::LocalWorkload* local, bool is_client) {
  if (exchange.sampled()) {
    return SampledBy::kHead;
  }
  if (local == nullptr) {
    return std::nullopt;
  }
  const model::TailSettings& tail = local->trace.tail;
  if (tail.errors && !ErrorType(flow, is_client).empty()) {
    return SampledBy::kError;
  }
  if (tail.slower_than.count() > 0 && flow.timing.total >= tail.slower_than) {
    return SampledBy::kSlow;
  }
  return std::nullopt;
}

// What the exchange was about.
void TakeFacts(const ExchangeResult& exchange, Flow& flow) {
  if (exchange.database != nullptr) {
    flow.database = exchange.database;  // its protocol is the connection's
    return;
  }
  const Protocol plain = exchange.http.version_major == 2 ? Protocol::kHttp2 : Protocol::kHttp1;
  flow.protocol = exchange.http.is_grpc ? Protocol::kGrpc : plain;
  flow.http = exchange.http;
}

// The trace of the record's flow, and its span if it is to have one.
void AddSpan(const ExchangeResult& exchange, bool is_client, Record& record) {
  Flow& flow = record.flow;
  const SpanId& span_id = is_client ? exchange.client_span_id : exchange.server_span_id;
  flow.parent_source = exchange.parent_source;
  flow.trace_id = exchange.trace_id;
  flow.span_id = span_id;
  const auto sampled_by =
      span_id != SpanId{} ? Sample(flow, exchange, record.local.get(), is_client) : std::nullopt;
  flow.sampled = sampled_by.has_value();
  if (!sampled_by) {
    return;
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
      .sampled_by = *sampled_by,
      .links = below_client ? std::vector<SpanLink>() : exchange.links,
      .tags = is_client ? exchange.client_tags : exchange.server_tags,
  };
  if (record.span->links.size() > kMaxSpanLinks) {
    record.span->links.resize(kMaxSpanLinks);
  }
  record.span->parent_is_remote = !is_client && record.span->parent_span_id != SpanId{};
  flow.parent_source = record.span->parent_source;
  flow.parent_span_id = record.span->parent_span_id;
}

}  // namespace

bool IsRefusal(Reason reason) {
  switch (reason) {
    case Reason::kNoOriginalDestination:
    case Reason::kNoIdentity:
    case Reason::kUnknownDestination:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
    case Reason::kPeerUntrusted:
    case Reason::kRefusedByPeer:
    case Reason::kCertificateExpired:
    case Reason::kPlaintextRefused:
    case Reason::kWitnessRefused:
    case Reason::kPolicyDenied:
      return true;
    default:
      return false;
  }
}

std::string CleanText(std::string_view text, std::size_t limit_bytes) {
  const bool is_ascii =
      std::ranges::all_of(text.substr(0, limit_bytes), [](char c) { return (c & 0x80) == 0; });
  if (is_ascii && text.size() <= limit_bytes) {
    return std::string(text);
  }
  std::string clean;
  clean.reserve(std::min(text.size(), limit_bytes));
  std::size_t cut_at = 0;  // where the mark fits in behind
  while (!text.empty()) {
    const std::size_t bytes = CharacterBytes(text);
    const std::size_t taken = std::max<std::size_t>(bytes, 1);
    if (clean.size() + taken > limit_bytes) {
      if (limit_bytes >= kCutMark.size()) {
        clean.resize(cut_at);
        clean += kCutMark;
      }
      return clean;
    }
    if (bytes == 0) {
      clean += '?';
    } else {
      clean += text.substr(0, bytes);
    }
    text.remove_prefix(taken);
    if (clean.size() + kCutMark.size() <= limit_bytes) {
      cut_at = clean.size();
    }
  }
  return clean;
}

std::string RedactQuery(std::string_view query, bool keep_values, std::size_t limit_bytes) {
  std::string kept;
  // Not more than what can be shown: a query can be as long as a request line.
  while (!query.empty() && kept.size() <= limit_bytes) {
    const std::size_t pair_end = query.find('&');
    const std::string_view pair = query.substr(0, pair_end);
    const std::string_view key = pair.substr(0, pair.find('='));
    if (!key.empty()) {
      kept += kept.empty() ? "" : "&";
      const bool has_value = keep_values && key.size() < pair.size();
      const bool is_secret = has_value && std::ranges::find(kSecretKeys, key) != kSecretKeys.end();
      kept += is_secret || !has_value ? key : pair;
      kept += is_secret ? "=REDACTED" : "";
    }
    query = pair_end == std::string_view::npos ? std::string_view() : query.substr(pair_end + 1);
  }
  return CleanText(kept, limit_bytes);
}

Record FinishRequest(const Flow& connection, const ExchangeResult& exchange,
                     std::shared_ptr<const model::LocalWorkload> local) {
  const bool is_client = connection.direction == Direction::kOutbound;
  Record record{.flow = connection, .span = std::nullopt, .local = std::move(local)};
  Flow& flow = record.flow;
  flow.is_request = true;
  flow.verdict = RequestVerdict(connection.verdict, exchange.reason);
  flow.reason = exchange.reason;
  flow.policy = exchange.policy.empty() ? connection.policy : exchange.policy;
  TakeFacts(exchange, flow);
  flow.bytes_sent = exchange.bytes_sent;
  flow.bytes_received = exchange.bytes_received;
  flow.timing = exchange.timing;
  flow.tags = is_client ? exchange.client_tags : exchange.server_tags;
  AddSpan(exchange, is_client, record);
  return record;
}

void AddConnectionSpan(const ExchangeResult& exchange, Record& record) {
  AddSpan(exchange, record.flow.direction == Direction::kOutbound, record);
}

}  // namespace weir::observe
