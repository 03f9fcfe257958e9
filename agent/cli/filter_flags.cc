#include "agent/cli/filter_flags.h"

#include <array>
#include <utility>
#include <vector>

namespace weir::cli {
namespace {

constexpr std::array<FilterFlag, 28> kFlags = {{
    {"workload", "workload", "=", "NS/NAME", "workload, * as a wildcard", true},
    {"pod", "workload", "=", "NS/NAME", "the same as --workload", true},
    {"vm", "vm", "=", "NAME", "VM's workload: one without a namespace", true},
    {"service", "service", "=", "NAME", "service, by label or by the workload's name", true},
    {"namespace", "ns", "=", "NS", "namespace", true},
    {"identity", "id", "=", "SPIFFE-ID", "identity, * as a wildcard", true},
    {"ip", "ip", "=", "CIDR", "address or range", true},
    {"port", "port", "=", "PORT", "port", true},
    {"node", "node", "=", "NODE", "node of the workload", true},
    {"pid", "pid", "=", "PID", "process that connected"},
    {"dir", "dir", "=", "in|out", "direction, seen from the workload"},
    {"proto", "proto", "=", "opaque|tls|http1|http2|grpc|postgresql|mysql|redis", "protocol"},
    {"method", "method", "=", "METHOD", "HTTP method"},
    {"path", "path", "~", "REGEX", "path of the request"},
    {"host", "host", "=", "HOST", "Host or authority, * as a wildcard"},
    {"header", "tag", "=", "HEADER", "header that MeshTrace keeps, as TAG:VALUE"},
    {"status", "status", "=", "STATUS", "status, class (5xx) or comparison (>=400)"},
    {"grpc-status", "grpc", "=", "STATUS", "gRPC status, by name or number"},
    {"trace-id", "trace", "=", "ID", "trace id"},
    {"min-duration", "duration", ">=", "DURATION", "as long as this or longer"},
    {"min-bytes", "bytes", ">=", "SIZE", "as many bytes as this or more"},
    {"verdict", "verdict", "=", "allow|deny|bypass|passthrough|error", "what was decided"},
    {"policy", "policy", "=", "RULE", "rule that admitted or refused it"},
    {"reason", "reason", "=", "REASON", "why it ended other than well"},
    {"mtls", "mtls", "=", "on|off|any", "protected on the wire"},
    {"parent", "parent", "=", "header|runtime|turn|sole|none", "where the parent span came from"},
    {"process", "comm", "=", "NAME", "name of the process that connected"},
    {"sni", "sni", "=", "NAME", "server name of the application's own TLS"},
}};

// Quotes a value that the filter's language would take apart.
std::string Quote(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \t()'\",") == std::string::npos) {
    return value;
  }
  std::string quoted = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') {
      quoted += '\\';
    }
    quoted += c;
  }
  return quoted + "'";
}

// A value may carry its own comparison: >=400.
std::string Comparison(const FlagTerm& term, const std::string& value) {
  for (const std::string_view op : {">=", "<=", ">", "<"}) {
    if (value.starts_with(op)) {
      return term.field + std::string(op) + Quote(value.substr(op.size()));
    }
  }
  return term.field + term.op + Quote(value);
}

std::string ToText(const FlagTerm& term) {
  std::vector<std::string> comparisons;
  if (term.op == "~") {
    comparisons.push_back(term.field + "~" + Quote(term.value));
  } else {
    for (const std::string& value : Split(term.value, ',')) {
      comparisons.push_back(Comparison(term, value));
    }
  }
  const bool several = comparisons.size() > 1;
  const std::string text = Join(comparisons, " or ");
  return std::string(term.negated ? "not " : "") + (several ? "(" + text + ")" : text);
}

}  // namespace

std::span<const FilterFlag> FilterFlags() {
  return kFlags;
}

std::string SideField(std::string_view field, std::string_view side) {
  const std::string prefix = side == "from" ? "src" : "dst";
  return field == "workload" ? prefix : prefix + "." + std::string(field);
}

std::string ToExpression(const FlowsOptions& options) {
  std::vector<std::string> terms;
  for (const FlagTerm& term : options.terms) {
    if (term.field != "mtls" || term.value != "any" || term.negated) {
      terms.push_back(ToText(term));
    }
  }
  if (!options.expression.empty()) {
    // Alone it stays as written, so that an error's column is that of what was typed.
    terms.push_back(terms.empty() ? options.expression : "(" + options.expression + ")");
  }
  return Join(terms, " and ");
}

}  // namespace weir::cli
