#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/admin/flow_message.h"
#include "agent/observe/grpc_status.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

using observe::Flow;

// The enumerator whose text is `word`; false when none of the first `count` has it.
template <typename E>
bool ReadWord(std::string_view word, E& to, std::size_t count = 16) {
  for (std::size_t i = 0; i < count; ++i) {
    if (observe::ToString(static_cast<E>(i)) == word) {
      to = static_cast<E>(i);
      return true;
    }
  }
  return false;
}

base::Nanoseconds ToNanoseconds(double seconds) {
  constexpr double kNanosPerSecond = 1e9;
  return base::Nanoseconds(std::llround(seconds * kNanosPerSecond));
}

// Hexadecimal digits, all of them, or nothing at all.
template <typename Id>
bool ReadId(std::string_view text, Id& to) {
  if (text.empty()) {
    return true;
  }
  if (text.size() != to.size() * 2) {
    return false;
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    const char* const digits = text.data() + 2 * i;
    if (std::from_chars(digits, digits + 2, to[i], 16).ptr != digits + 2) {
      return false;
    }
  }
  return true;
}

bool ReadParty(const v1::Party& from, observe::Party& to) {
  const auto address = base::IpAddress::Parse(from.address());
  if (!address || from.port() > UINT16_MAX) {
    return false;
  }
  to.endpoint = {.address = *address, .port = static_cast<std::uint16_t>(from.port())};
  if (from.workload().empty()) {
    return true;
  }
  auto identity = model::SpiffeId::Parse(from.identity());
  if (!identity) {
    return false;
  }
  to.workload =
      std::make_shared<const model::Workload>(model::Workload{.name = from.workload(),
                                                              .ns = from.namespace_(),
                                                              .service_account = {},
                                                              .identity = std::move(*identity),
                                                              .node = from.node(),
                                                              .addresses = {to.endpoint.address},
                                                              .inbounds = {},
                                                              .labels = {}});
  return true;
}

void ReadHttp(const v1::HttpExchange& from, observe::HttpExchange& to) {
  to.method = from.method();
  to.host = from.host();
  to.path = from.path();
  to.query_keys = from.query_keys();
  to.user_agent = from.user_agent();
  to.status = static_cast<std::uint16_t>(from.status());
  to.version_major = from.version() == "2" ? 2 : 1;
  to.version_minor = from.version() == "1.1" ? 1 : 0;
  to.request_index = from.request_index();
  constexpr int kMaxCode = UINT8_MAX;
  for (int code = 0; code <= kMaxCode && !from.grpc_status().empty(); ++code) {
    if (observe::GrpcStatusName(code) == from.grpc_status()) {
      to.is_grpc = true;
      to.grpc_status = static_cast<std::int16_t>(code);
      break;
    }
  }
}

observe::DatabaseCall ReadDatabase(const v1::DatabaseCall& from) {
  observe::DatabaseCall to;
  for (const std::string_view system : {"postgresql", "mysql", "mariadb", "redis"}) {
    to.system = from.system() == system ? system : to.system;
  }
  to.operation = from.operation();
  to.collection = from.collection();
  to.summary = from.summary();
  to.name_space = from.namespace_();
  to.status = from.status();
  to.is_error = from.error();
  to.returned_rows = from.has_returned_rows() ? from.returned_rows() : -1;
  to.affected_rows = from.has_affected_rows() ? from.affected_rows() : -1;
  to.batch_size = from.batch_size();
  to.index = from.index();
  return to;
}

// Whether every time of the message is one that nanoseconds can tell, in 64 bits together.
bool HasTimes(const v1::Flow& from) {
  constexpr std::int64_t kMostSeconds = 4'000'000'000;
  const auto is_good = [](double seconds) { return seconds >= 0 && seconds <= kMostSeconds; };
  return from.time().seconds() >= 0 && from.time().seconds() <= kMostSeconds &&
         is_good(from.duration_seconds()) && is_good(from.tunnel_wait_seconds()) &&
         is_good(from.upstream_connect_seconds()) && is_good(from.first_byte_seconds());
}

void ReadTiming(const v1::Flow& from, observe::Timing& to) {
  to.start = base::WallTime(std::chrono::seconds(from.time().seconds()) +
                            base::Nanoseconds(from.time().nanos()));
  to.total = ToNanoseconds(from.duration_seconds());
  if (from.has_tunnel_wait_seconds()) {
    to.tunnel_wait = ToNanoseconds(from.tunnel_wait_seconds());
  }
  if (from.has_upstream_connect_seconds()) {
    to.upstream_connect = ToNanoseconds(from.upstream_connect_seconds());
  }
  if (from.has_first_byte_seconds()) {
    to.first_byte = ToNanoseconds(from.first_byte_seconds());
  }
}

bool ReadWords(const v1::Flow& from, Flow& to) {
  const bool has_version = from.tls_version().size() == 3 && from.tls_version().starts_with("1.");
  constexpr int kTls10 = 0x0301;  // RFC 8446 section 4.2.1
  to.tls_version =
      has_version ? static_cast<std::uint16_t>(kTls10 + (from.tls_version().back() - '0')) : 0;
  to.is_request = from.kind() == "request";
  return ReadWord(from.direction(), to.direction, 2) && ReadWord(from.protocol(), to.protocol) &&
         ReadWord(from.verdict(), to.verdict) && ReadWord(from.mtls(), to.mtls) &&
         ReadWord(from.parent_source(), to.parent_source) &&
         ReadWord(from.reason(), to.reason, observe::kReasonCount);
}

}  // namespace

std::optional<Flow> FromMessage(const v1::Flow& from) {
  Flow flow;
  const bool good =
      HasTimes(from) && ReadWords(from, flow) && ReadParty(from.source(), flow.source) &&
      ReadParty(from.destination(), flow.destination) && ReadId(from.trace_id(), flow.trace_id) &&
      ReadId(from.span_id(), flow.span_id) && ReadId(from.parent_span_id(), flow.parent_span_id);
  if (!good) {
    return std::nullopt;
  }
  if (from.has_http()) {
    ReadHttp(from.http(), flow.http.emplace());
  }
  if (from.has_database()) {
    flow.database = std::make_shared<const observe::DatabaseCall>(ReadDatabase(from.database()));
  }
  ReadTiming(from, flow.timing);
  flow.via = from.via();
  flow.sni = from.sni();
  flow.policy = from.policy();
  flow.retries = static_cast<std::uint8_t>(from.retries());
  flow.sampled = from.sampled();
  flow.bytes_sent = from.bytes_sent();
  flow.bytes_received = from.bytes_received();
  flow.connection_id = from.connection_id();
  flow.peer_certificate_expiry = from.peer_certificate_expiry().seconds();
  flow.pid = from.pid();
  const std::string& name = from.process_name();
  std::copy_n(name.begin(), std::min(name.size(), flow.comm.size()), flow.comm.begin());
  for (const auto& [key, value] : from.tags()) {
    flow.tags.push_back({.name = key, .value = value});
  }
  return flow;
}

}  // namespace weir::admin
