#include "agent/export/collector.h"

#include <charconv>

#include "agent/base/percent.h"

namespace weir::telemetry {
namespace {

using base::Error;
using base::ErrorCode;

constexpr std::size_t kMaxHeaders = 64;
constexpr std::int64_t kMaxTimeoutMilliseconds = 600'000;

std::unexpected<Error> Bad(const std::string& variable, const std::string& why) {
  return base::MakeError(ErrorCode::kInvalidArgument, variable + ": " + why);
}

std::string_view Trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    return {};
  }
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// "name=value,name=value", the values percent-encoded (W3C Baggage); never repeats a value in an
// error, as it may be a credential.
base::Result<std::vector<client::HttpHeader>> ParseHeaders(const std::string& variable,
                                                           std::string_view text) {
  std::vector<client::HttpHeader> headers;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = Trim(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (item.empty()) {
      continue;
    }
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos || Trim(item.substr(0, equals)).empty()) {
      return Bad(variable, "not of the form NAME=VALUE,...");
    }
    if (headers.size() == kMaxHeaders) {
      return Bad(variable, "more than 64 headers");
    }
    headers.emplace_back(Trim(item.substr(0, equals)),
                         base::DecodePercent(Trim(item.substr(equals + 1))));
  }
  return headers;
}

// A variable and the name that it was found under.
struct Variable {
  std::string name;
  std::string value;
};

std::string_view NameOf(Signal signal) {
  switch (signal) {
    case Signal::kTraces:
      return "TRACES_";
    case Signal::kMetrics:
      return "METRICS_";
    case Signal::kLogs:
      return "LOGS_";
  }
  return "";
}

std::string_view PathOf(Signal signal) {
  switch (signal) {
    case Signal::kTraces:
      return "v1/traces";
    case Signal::kMetrics:
      return "v1/metrics";
    case Signal::kLogs:
      return "v1/logs";
  }
  return "";
}

// The variables of one signal, or of all, as far as the rule lets them count.
class Environment {
 public:
  Environment(Signal signal, const EnvironmentRule& rule, const GetEnvironment& get)
      : signal_(signal), rule_(rule), get_(get) {}

  // OTEL_EXPORTER_OTLP_SIGNAL_X.
  [[nodiscard]] std::optional<Variable> OfSignal(const std::string& name) const {
    return rule_.allows_signals ? Read(std::string(NameOf(signal_)) + name) : std::nullopt;
  }
  // OTEL_EXPORTER_OTLP_X.
  [[nodiscard]] std::optional<Variable> OfAll(const std::string& name) const { return Read(name); }
  // The first of them that is set.
  [[nodiscard]] std::optional<Variable> Find(const std::string& name) const {
    auto found = OfSignal(name);
    return found ? found : OfAll(name);
  }

 private:
  [[nodiscard]] std::optional<Variable> Read(const std::string& name) const {
    if (rule_.mode == EnvironmentRule::Mode::kDisabled) {
      return std::nullopt;
    }
    const std::string whole = "OTEL_EXPORTER_OTLP_" + name;
    const char* value = get_(whole.c_str());
    if (value == nullptr || *value == '\0') {  // empty means unset, by the specification
      return std::nullopt;
    }
    return Variable{whole, value};
  }

  const Signal signal_;
  const EnvironmentRule& rule_;
  const GetEnvironment& get_;
};

base::Result<bool> ParseBool(const Variable& variable) {
  std::string lower = variable.value;
  for (char& c : lower) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  if (lower != "true" && lower != "false") {
    return Bad(variable.name, "\"" + variable.value + "\" is neither true nor false");
  }
  return lower == "true";
}

base::Result<void> ApplyTimeout(const Variable& variable, Collector& collector) {
  const std::string& text = variable.value;
  std::int64_t milliseconds = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), milliseconds);
  if (failure != std::errc{} || end != text.data() + text.size() || milliseconds <= 0 ||
      milliseconds > kMaxTimeoutMilliseconds) {
    return Bad(variable.name, "\"" + text + "\" is not 1 to 600000 milliseconds");
  }
  collector.timeout = std::chrono::milliseconds(milliseconds);
  return {};
}

void ApplyFiles(const Environment& environment, client::TlsFiles& files) {
  const auto apply = [&](const char* name, std::string& path) {
    if (auto file = environment.Find(name)) {
      path = std::move(file->value);
    }
  };
  apply("CERTIFICATE", files.roots);
  apply("CLIENT_CERTIFICATE", files.certificate);
  apply("CLIENT_KEY", files.key);
}

base::Result<void> ApplyOptions(const Environment& environment, Collector& collector) {
  if (const auto headers = environment.Find("HEADERS")) {
    auto parsed = ParseHeaders(headers->name, headers->value);
    if (!parsed) {
      return std::unexpected(parsed.error());
    }
    collector.headers = std::move(*parsed);
  }
  if (const auto compression = environment.Find("COMPRESSION")) {
    if (compression->value != "gzip" && compression->value != "none") {
      return Bad(compression->name, "\"" + compression->value + "\" is neither gzip nor none");
    }
    collector.gzip = compression->value == "gzip";
  }
  ApplyFiles(environment, collector.tls);
  if (collector.tls.certificate.empty() != collector.tls.key.empty()) {
    return Bad("OTEL_EXPORTER_OTLP_CLIENT_KEY",
               "a client's key and its certificate go together, one of them is not named");
  }
  if (const auto timeout = environment.Find("TIMEOUT")) {
    return ApplyTimeout(*timeout, collector);
  }
  return {};
}

base::Result<CollectorKind> ParseProtocol(const Variable& protocol) {
  if (protocol.value == "grpc") {
    return CollectorKind::kOtlpGrpc;
  }
  if (protocol.value == "http/protobuf") {
    return CollectorKind::kOtlpHttp;
  }
  return std::unexpected(Error(ErrorCode::kUnsupported,
                               protocol.name + ": \"" + protocol.value + "\" is not supported")
                             .WithRemedy("set it to grpc or http/protobuf"));
}

// An endpoint before it is parsed; `where` names its source in errors.
struct Endpoint {
  std::string where;
  CollectorKind kind = CollectorKind::kOtlpHttp;
  std::string url;
  bool is_base_url = false;
  bool short_trace_ids = false;
};

// Field by field: the endpoint and the protocol that the rule prefers.
base::Result<std::optional<Endpoint>> ChooseEndpoint(const std::optional<NamedCollector>& named,
                                                     const EnvironmentRule& rule,
                                                     const Environment& environment) {
  const auto of_signal = environment.OfSignal("ENDPOINT");
  const auto variable = of_signal ? of_signal : environment.OfAll("ENDPOINT");
  if (rule.mode == EnvironmentRule::Mode::kRequired && !variable) {
    return base::MakeError(ErrorCode::kNotFound,
                           "the backend requires OTEL_EXPORTER_OTLP_ENDPOINT, which is not set");
  }
  Endpoint endpoint;
  const bool is_named = named && !(variable && rule.is_first);
  if (is_named) {
    endpoint = {.where = "",
                .kind = named->kind,
                .url = named->url,
                .is_base_url = named->is_base_url,
                .short_trace_ids = named->short_trace_ids};
  } else if (variable) {
    endpoint = {.where = variable->name + ": ",
                .kind = named ? named->kind : CollectorKind::kOtlpHttp,
                .url = variable->value,
                .is_base_url = !of_signal};
  } else {
    return std::optional<Endpoint>();
  }
  // A named URL was made for the named protocol; its path would be wrong for another.
  if (const auto protocol = environment.Find("PROTOCOL"); protocol && !is_named) {
    const auto kind = ParseProtocol(*protocol);
    if (!kind) {
      return std::unexpected(kind.error());
    }
    endpoint.kind = *kind;
  }
  return endpoint;
}

base::Result<client::HttpUrl> ParseEndpoint(const Endpoint& endpoint, Signal signal,
                                            const Environment& environment) {
  std::string text = endpoint.url;
  if (endpoint.kind == CollectorKind::kOtlpGrpc && text.find("://") == std::string::npos) {
    const auto variable = environment.Find("INSECURE");
    const auto is_insecure = variable ? ParseBool(*variable) : base::Result<bool>(false);
    if (!is_insecure) {
      return std::unexpected(is_insecure.error());
    }
    text.insert(0, *is_insecure ? "http://" : "https://");
  }
  auto url = client::ParseHttpUrl(text);
  if (!url) {
    const Error& error = url.error();
    return base::MakeError(error.code(), endpoint.where + error.message());
  }
  if (endpoint.kind == CollectorKind::kOtlpGrpc) {
    url->target = "/";
  } else if (endpoint.is_base_url) {
    if (url->target.find('?') != std::string::npos) {
      return base::MakeError(ErrorCode::kInvalidArgument,
                             endpoint.where + "URL \"" + text + "\": a base URL has no query");
    }
    url->target += url->target.ends_with('/') ? "" : "/";
    url->target += PathOf(signal);
  }
  return url;
}

}  // namespace

std::string_view ToString(Signal signal) {
  switch (signal) {
    case Signal::kTraces:
      return "traces";
    case Signal::kMetrics:
      return "metrics";
    case Signal::kLogs:
      return "logs";
  }
  return "";
}

std::string_view ToString(CollectorKind kind) {
  switch (kind) {
    case CollectorKind::kOtlpHttp:
      return "otlp/http";
    case CollectorKind::kOtlpGrpc:
      return "otlp/grpc";
    case CollectorKind::kZipkin:
      return "zipkin";
  }
  return "unknown";
}

std::string Collector::display() const {
  return url.origin() + (kind == CollectorKind::kOtlpGrpc ? "" : url.target);
}

base::Result<std::optional<Collector>> FindCollector(const std::optional<NamedCollector>& named,
                                                     Signal signal, const EnvironmentRule& rule,
                                                     const GetEnvironment& get) {
  EnvironmentRule effective = rule;
  if (named && named->kind == CollectorKind::kZipkin) {
    effective.mode = EnvironmentRule::Mode::kDisabled;
  }
  const Environment environment(signal, effective, get);
  const auto endpoint = ChooseEndpoint(named, effective, environment);
  if (!endpoint) {
    return std::unexpected(endpoint.error());
  }
  if (!*endpoint) {
    return std::optional<Collector>();
  }
  auto url = ParseEndpoint(**endpoint, signal, environment);
  if (!url) {
    return std::unexpected(url.error());
  }
  Collector collector{.kind = (*endpoint)->kind,
                      .signal = signal,
                      .url = std::move(*url),
                      .short_trace_ids = (*endpoint)->short_trace_ids};
  if (const auto applied = ApplyOptions(environment, collector); !applied) {
    return std::unexpected(applied.error());
  }
  return std::optional(std::move(collector));
}

}  // namespace weir::telemetry
