#include "agent/cli/flow_rows.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <utility>

#include "agent/base/clock.h"
#include "weir/v1/flow.pb.h"

namespace weir::cli {
namespace {

std::string OrDash(const std::string& text) {
  return text.empty() ? "-" : Printable(text);
}

std::string AddressOf(const v1::Party& party) {
  const bool v6 = party.address().find(':') != std::string::npos;
  return (v6 ? "[" + party.address() + "]" : party.address()) + ":" + std::to_string(party.port());
}

std::string NameOf(const v1::Party& party, bool numeric, bool with_port) {
  if (numeric || party.workload().empty()) {
    return AddressOf(party);
  }
  const std::string name = Printable(
      party.namespace_().empty() ? party.workload() : party.namespace_() + "/" + party.workload());
  return with_port ? name + ":" + std::to_string(party.port()) : name;
}

Color StatusColor(std::uint32_t status) {
  if (status >= 500) {
    return Color::kRed;
  }
  return status >= 400 ? Color::kYellow : Color::kGreen;
}

// Of a command, its operation and its tables.
std::string MethodOf(const v1::Flow& flow) {
  return OrDash(flow.has_database() ? flow.database().operation() : flow.http().method());
}

std::string PathOf(const v1::Flow& flow) {
  return OrDash(flow.has_database() ? flow.database().summary() : flow.http().path());
}

// Of a database command, its error; of a gRPC call, what it ended with; else the HTTP status.
std::string StatusOf(const v1::Flow& flow, const Style& style) {
  if (const std::string& grpc = flow.http().grpc_status(); !grpc.empty()) {
    return Paint(style, grpc == "OK" ? Color::kGreen : Color::kRed, grpc);
  }
  if (flow.has_database()) {
    const std::string& code = flow.database().status();
    return flow.database().error() ? Paint(style, Color::kRed, code.empty() ? "error" : code) : "-";
  }
  const std::uint32_t status = flow.http().status();
  return status == 0 ? "-" : Paint(style, StatusColor(status), std::to_string(status));
}

std::string VerdictOf(const v1::Flow& flow, const Style& style) {
  const bool bad = flow.verdict() == "deny" || flow.verdict() == "error";
  return Paint(style,
               bad                         ? Color::kRed
               : flow.verdict() == "allow" ? Color::kGreen
                                           : Color::kYellow,
               OrDash(flow.verdict()));
}

std::string ReasonOf(const v1::Flow& flow) {
  return flow.reason().empty() || flow.reason() == "none" ? ""
                                                          : "(" + Printable(flow.reason()) + ")";
}

std::string MtlsOf(const v1::Flow& flow, const Style& style) {
  return flow.mtls() == "off" ? Paint(style, Color::kYellow, "off") : OrDash(flow.mtls());
}

std::string TraceOf(const v1::Flow& flow) {
  constexpr std::size_t kShownDigits = 8;
  if (flow.trace_id().empty()) {
    return "-";
  }
  const bool parent = !flow.parent_source().empty() && flow.parent_source() != "none";
  return flow.trace_id().substr(0, kShownDigits) + ".." +
         (parent ? "(" + flow.parent_source() + ")" : "");
}

std::string TimeOf(const google::protobuf::Timestamp& time, TimeFormat format) {
  return FormatTime(ToWallTime(time), format, base::SystemClock().WallNow());
}

// By their names, since the order in a message means nothing.
std::string TagsOf(const v1::Flow& flow) {
  const std::map<std::string, std::string> sorted(flow.tags().begin(), flow.tags().end());
  std::vector<std::string> tags;
  for (const auto& [name, value] : sorted) {
    tags.push_back(Printable(name) + ":" + Printable(value));
  }
  return tags.empty() ? "-" : Join(tags, ",");
}

using Options = FlowRowOptions;
using v1::Flow;

constexpr std::array<FlowColumn, 35> kColumns = {{
    {"TIME", [](const Flow& flow, const Options& o) { return TimeOf(flow.time(), o.time_format); }},
    {"DIR", [](const Flow& flow, const Options&) { return OrDash(flow.direction()); }},
    {"SRC", [](const Flow& flow,
               const Options& o) { return NameOf(flow.source(), o.numeric, /*with_port=*/false); }},
    {"DST",
     [](const Flow& flow, const Options& o) {
       return NameOf(flow.destination(), o.numeric, /*with_port=*/true);
     }},
    {"PROTO", [](const Flow& flow, const Options&) { return OrDash(flow.protocol()); }},
    {"METHOD", [](const Flow& flow, const Options&) { return MethodOf(flow); }},
    {"PATH", [](const Flow& flow, const Options&) { return PathOf(flow); }},
    {">STATUS", [](const Flow& flow, const Options& o) { return StatusOf(flow, o.style); }},
    {">DUR",
     [](const Flow& flow, const Options&) { return FormatDuration(flow.duration_seconds()); }},
    {"VERDICT", [](const Flow& flow, const Options& o) { return VerdictOf(flow, o.style); }},
    {"MTLS", [](const Flow& flow, const Options& o) { return MtlsOf(flow, o.style); }},
    {"TRACE", [](const Flow& flow, const Options&) { return OrDash(flow.trace_id()); }},
    {">TUNNEL",
     [](const Flow& flow, const Options&) {
       return flow.has_tunnel_wait_seconds() ? FormatDuration(flow.tunnel_wait_seconds()) : "-";
     }},
    {">CONNECT",
     [](const Flow& flow, const Options&) {
       return flow.has_upstream_connect_seconds() ? FormatDuration(flow.upstream_connect_seconds())
                                                  : "-";
     }},
    {">FIRST-BYTE",
     [](const Flow& flow, const Options&) {
       return flow.has_first_byte_seconds() ? FormatDuration(flow.first_byte_seconds()) : "-";
     }},
    {">BODY",
     [](const Flow& flow, const Options&) {
       return flow.has_body_seconds() ? FormatDuration(flow.body_seconds()) : "-";
     }},
    {"NODE", [](const Flow& flow, const Options&) { return OrDash(flow.node()); }},
    {"SRC-ID", [](const Flow& flow, const Options&) { return OrDash(flow.source().identity()); }},
    {"DST-ID",
     [](const Flow& flow, const Options&) { return OrDash(flow.destination().identity()); }},
    {"ORIG-DST",
     [](const Flow& flow, const Options&) { return OrDash(flow.original_destination()); }},
    {"VIA", [](const Flow& flow, const Options&) { return OrDash(flow.via()); }},
    {">BYTES-IN",
     [](const Flow& flow, const Options&) { return FormatBytes(flow.bytes_received()); }},
    {">BYTES-OUT", [](const Flow& flow, const Options&) { return FormatBytes(flow.bytes_sent()); }},
    {"TLS-VER", [](const Flow& flow, const Options&) { return OrDash(flow.tls_version()); }},
    {"CERT-EXP",
     [](const Flow& flow, const Options&) {
       return flow.has_peer_certificate_expiry()
                  ? TimeOf(flow.peer_certificate_expiry(), TimeFormat::kFull)
                  : "-";
     }},
    {"POLICY", [](const Flow& flow, const Options&) { return OrDash(flow.policy()); }},
    {"REASON", [](const Flow& flow,
                  const Options&) { return OrDash(flow.reason() == "none" ? "" : flow.reason()); }},
    {"PARENT", [](const Flow& flow, const Options&) { return OrDash(flow.parent_span_id()); }},
    {"PARENT-SRC",
     [](const Flow& flow, const Options&) {
       return OrDash(flow.trace_id().empty() ? "" : flow.parent_source());
     }},
    {">CONN-ID",
     [](const Flow& flow, const Options&) { return std::to_string(flow.connection_id()); }},
    {">REQ#",
     [](const Flow& flow, const Options&) {
       return flow.has_http() ? std::to_string(flow.http().request_index()) : "-";
     }},
    {">RETRIES", [](const Flow& flow, const Options&) { return std::to_string(flow.retries()); }},
    {">PID", [](const Flow& flow,
                const Options&) { return flow.pid() == 0 ? "-" : std::to_string(flow.pid()); }},
    {"COMM", [](const Flow& flow, const Options&) { return OrDash(flow.process_name()); }},
    {"TAGS", [](const Flow& flow, const Options&) { return TagsOf(flow); }},
}};

}  // namespace

std::string FlowColumn::name() const {
  std::string name(header.substr(header.starts_with('>') ? 1 : 0));
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

std::span<const FlowColumn> FlowColumns() {
  return kColumns;
}

const FlowColumn* FindFlowColumn(std::string_view name) {
  const auto* const found =
      std::ranges::find_if(kColumns, [&](const FlowColumn& one) { return one.name() == name; });
  return found == kColumns.end() ? nullptr : found;
}

std::string DictOf(const Flow& flow, const std::vector<const FlowColumn*>& columns,
                   const Options& options) {
  std::string text;
  for (const FlowColumn* column : columns) {
    const std::string cell = column->cell(flow, options);
    std::string name(column->header.substr(column->header.starts_with('>') ? 1 : 0));
    text += cell == "-" ? "" : name + ": " + cell + "\n";
  }
  return text;
}

std::string CompactLine(const Flow& flow, const Options& options, const std::string& lead) {
  const Style& style = options.style;
  std::string line =
      Paint(style, Color::kDim, TimeOf(flow.time(), options.time_format)) + " " + lead;
  line += OrDash(flow.direction());
  for (const std::string& part :
       {NameOf(flow.source(), options.numeric, /*with_port=*/false), std::string("->"),
        NameOf(flow.destination(), options.numeric, /*with_port=*/true), OrDash(flow.protocol()),
        MethodOf(flow), PathOf(flow), StatusOf(flow, style),
        FormatDuration(flow.duration_seconds()), VerdictOf(flow, style) + ReasonOf(flow),
        MtlsOf(flow, style), TraceOf(flow)}) {
    line += " " + part;
  }
  return line;
}

}  // namespace weir::cli
