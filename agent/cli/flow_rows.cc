#include "agent/cli/flow_rows.h"

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

// Of a gRPC call, what it ended with; else the HTTP status.
std::string StatusOf(const v1::Flow& flow, const Style& style) {
  if (const std::string& grpc = flow.http().grpc_status(); !grpc.empty()) {
    return Paint(style, grpc == "OK" ? Color::kGreen : Color::kRed, grpc);
  }
  const std::uint32_t status = flow.http().status();
  return status == 0 ? "-" : Paint(style, StatusColor(status), std::to_string(status));
}

std::string VerdictOf(const v1::Flow& flow, const Style& style, bool with_reason) {
  const bool bad = flow.verdict() == "deny" || flow.verdict() == "error";
  const bool reason = with_reason && !flow.reason().empty() && flow.reason() != "none";
  return Paint(style,
               bad                         ? Color::kRed
               : flow.verdict() == "allow" ? Color::kGreen
                                           : Color::kYellow,
               OrDash(flow.verdict()) + (reason ? "(" + Printable(flow.reason()) + ")" : ""));
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

}  // namespace

std::string CompactLine(const v1::Flow& flow, const FlowRowOptions& options) {
  const Style& style = options.style;
  std::string line = Paint(style, Color::kDim, TimeOf(flow.time(), options.time_format));
  for (const std::string& part :
       {OrDash(flow.direction()), NameOf(flow.source(), options.numeric, /*with_port=*/false),
        std::string("->"), NameOf(flow.destination(), options.numeric, /*with_port=*/true),
        OrDash(flow.protocol()), OrDash(flow.http().method()), OrDash(flow.http().path()),
        StatusOf(flow, style), FormatDuration(flow.duration_seconds()),
        VerdictOf(flow, style, /*with_reason=*/true), MtlsOf(flow, style), TraceOf(flow)}) {
    line += " " + part;
  }
  return line;
}

std::vector<std::string> WideHeader() {
  return {"TIME",       "NODE",     "DIR",      "SRC",      "DST",    "PROTO",     "METHOD",
          "PATH",       ">STATUS",  ">DUR",     "VERDICT",  "REASON", "MTLS",      "TRACE",
          "PARENT-SRC", "SRC-ID",   "DST-ID",   "ORIG-DST", "VIA",    ">BYTES-IN", ">BYTES-OUT",
          "TLS-VER",    "CERT-EXP", ">CONN-ID", ">REQ#",    ">PID",   "COMM"};
}

std::vector<std::string> WideRow(const v1::Flow& flow, const FlowRowOptions& options) {
  const Style& style = options.style;
  return {TimeOf(flow.time(), options.time_format),
          OrDash(flow.node()),
          OrDash(flow.direction()),
          NameOf(flow.source(), options.numeric, /*with_port=*/false),
          NameOf(flow.destination(), options.numeric, /*with_port=*/true),
          OrDash(flow.protocol()),
          OrDash(flow.http().method()),
          OrDash(flow.http().path()),
          StatusOf(flow, style),
          FormatDuration(flow.duration_seconds()),
          VerdictOf(flow, style, /*with_reason=*/false),
          OrDash(flow.reason() == "none" ? "" : flow.reason()),
          MtlsOf(flow, style),
          OrDash(flow.trace_id()),
          OrDash(flow.trace_id().empty() ? "" : flow.parent_source()),
          OrDash(flow.source().identity()),
          OrDash(flow.destination().identity()),
          OrDash(flow.original_destination()),
          OrDash(flow.via()),
          FormatBytes(flow.bytes_received()),
          FormatBytes(flow.bytes_sent()),
          OrDash(flow.tls_version()),
          flow.has_peer_certificate_expiry()
              ? TimeOf(flow.peer_certificate_expiry(), TimeFormat::kFull)
              : "-",
          std::to_string(flow.connection_id()),
          flow.has_http() ? std::to_string(flow.http().request_index()) : "-",
          flow.pid() == 0 ? "-" : std::to_string(flow.pid()),
          OrDash(flow.process_name())};
}

}  // namespace weir::cli
