#include <charconv>

#include "agent/export/otlp_exporter.h"

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

// Undoes percent encoding (W3C Baggage, which the variable's form comes from); what is not
// a valid escape stays as it is.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// "name=value,name=value"; never repeats a value in an error, as it may be a credential.
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
    headers.emplace_back(Trim(item.substr(0, equals)), Unescape(Trim(item.substr(equals + 1))));
  }
  return headers;
}

// A variable and the name that it was found under.
struct Variable {
  std::string name;
  std::string value;
};

std::optional<Variable> Read(const GetEnvironment& get, const std::string& name) {
  const char* value = get(name.c_str());
  if (value == nullptr || *value == '\0') {  // empty means unset, by the specification
    return std::nullopt;
  }
  return Variable{name, value};
}

// OTEL_EXPORTER_OTLP_TRACES_X, else OTEL_EXPORTER_OTLP_X.
std::optional<Variable> ReadSignal(const GetEnvironment& get, const std::string& name) {
  auto found = Read(get, "OTEL_EXPORTER_OTLP_TRACES_" + name);
  return found ? found : Read(get, "OTEL_EXPORTER_OTLP_" + name);
}

base::Result<void> ApplyTimeout(const Variable& variable, OtlpEndpoint& endpoint) {
  const std::string& text = variable.value;
  std::int64_t milliseconds = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), milliseconds);
  if (failure != std::errc{} || end != text.data() + text.size() || milliseconds <= 0 ||
      milliseconds > kMaxTimeoutMilliseconds) {
    return Bad(variable.name, "\"" + text + "\" is not 1 to 600000 milliseconds");
  }
  endpoint.timeout = std::chrono::milliseconds(milliseconds);
  return {};
}

base::Result<void> ApplyOptions(const GetEnvironment& get, OtlpEndpoint& endpoint) {
  if (const auto headers = ReadSignal(get, "HEADERS")) {
    auto parsed = ParseHeaders(headers->name, headers->value);
    if (!parsed) {
      return std::unexpected(parsed.error());
    }
    endpoint.headers = std::move(*parsed);
  }
  if (const auto compression = ReadSignal(get, "COMPRESSION")) {
    if (compression->value != "gzip" && compression->value != "none") {
      return Bad(compression->name, "\"" + compression->value + "\" is neither gzip nor none");
    }
    endpoint.compression =
        compression->value == "gzip" ? OtlpCompression::kGzip : OtlpCompression::kNone;
  }
  if (const auto protocol = ReadSignal(get, "PROTOCOL");
      protocol && protocol->value != "http/protobuf") {
    return std::unexpected(
        Error(ErrorCode::kUnsupported,
              protocol->name + ": \"" + protocol->value + "\" is not supported")
            .WithRemedy("set it to http/protobuf and name the collector's HTTP port (4318)"));
  }
  if (const auto timeout = ReadSignal(get, "TIMEOUT")) {
    return ApplyTimeout(*timeout, endpoint);
  }
  return {};
}

}  // namespace

base::Result<OtlpEndpoint> OtlpEndpointOfTracesUrl(std::string_view url) {
  auto parsed = client::ParseHttpUrl(url);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  return OtlpEndpoint{.url = std::move(*parsed)};
}

base::Result<OtlpEndpoint> OtlpEndpointOfBaseUrl(std::string_view url) {
  auto endpoint = OtlpEndpointOfTracesUrl(url);
  if (endpoint) {
    std::string& target = endpoint->url.target;
    if (target.find('?') != std::string::npos) {
      return base::MakeError(ErrorCode::kInvalidArgument,
                             "URL \"" + std::string(url) + "\": a base URL has no query");
    }
    target += target.ends_with('/') ? "v1/traces" : "/v1/traces";
  }
  return endpoint;
}

base::Result<std::optional<OtlpEndpoint>> OtlpEndpointOfEnvironment(const GetEnvironment& get) {
  const auto traces = Read(get, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  const auto variable = traces ? traces : Read(get, "OTEL_EXPORTER_OTLP_ENDPOINT");
  if (!variable) {
    return std::optional<OtlpEndpoint>();
  }
  auto endpoint =
      traces ? OtlpEndpointOfTracesUrl(variable->value) : OtlpEndpointOfBaseUrl(variable->value);
  if (!endpoint) {
    const Error& error = endpoint.error();
    Error named(error.code(), variable->name + ": " + error.message());
    return std::unexpected(error.remedy().empty() ? std::move(named)
                                                  : std::move(named).WithRemedy(error.remedy()));
  }
  if (const auto applied = ApplyOptions(get, *endpoint); !applied) {
    return std::unexpected(applied.error());
  }
  return std::optional(std::move(*endpoint));
}

}  // namespace weir::telemetry
