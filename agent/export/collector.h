#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/client/http_client.h"

namespace weir::telemetry {

enum class CollectorKind : std::uint8_t { kOtlpHttp, kOtlpGrpc, kZipkin };
std::string_view ToString(CollectorKind kind);  // "otlp/http", "otlp/grpc", "zipkin"

// The signals of OTLP, each with variables, a path and a gRPC service of its own.
enum class Signal : std::uint8_t { kTraces, kMetrics, kLogs };
std::string_view ToString(Signal signal);  // "traces", "metrics", "logs"

// Where telemetry of one signal goes, and what is sent with each request.
struct Collector {
  CollectorKind kind = CollectorKind::kOtlpHttp;
  Signal signal = Signal::kTraces;
  client::HttpUrl url;  // used as it is; of gRPC only host, port and whether TLS
  std::vector<client::HttpHeader> headers{};  // metadata of gRPC
  std::chrono::milliseconds timeout{10'000};  // of one attempt
  bool gzip = false;
  client::TlsFiles tls{};        // for https
  bool short_trace_ids = false;  // Zipkin: the last 64 bits of trace ids only

  // As messages and metrics show it: without credentials.
  [[nodiscard]] std::string display() const;
  friend bool operator==(const Collector&, const Collector&) = default;
};

// A collector that documents or agent.yaml name. `url` is used as it is, but for OTLP/HTTP
// with `is_base_url`, to which the signal's path is added ("/v1/traces"). gRPC takes
// "http://HOST:PORT", "https://..." and "HOST:PORT".
struct NamedCollector {
  CollectorKind kind = CollectorKind::kOtlpHttp;
  std::string url;
  bool is_base_url = false;
  bool short_trace_ids = false;
};

// How the environment and a named collector go together, field by field
// (MeshOpenTelemetryBackend's `env`).
struct EnvironmentRule {
  enum class Mode : std::uint8_t { kDisabled, kOptional, kRequired };
  Mode mode = Mode::kOptional;
  bool is_first = false;       // the environment's endpoint and protocol win over the named
  bool allows_signals = true;  // OTEL_EXPORTER_OTLP_TRACES_* and so on count
  friend bool operator==(const EnvironmentRule&, const EnvironmentRule&) = default;
};

// Reads a variable of the environment; nullptr if it is not set.
using GetEnvironment = std::function<const char*(const char* name)>;

// The collector of `signal` from `named`, if that is given, and from
// OTEL_EXPORTER_OTLP_[SIGNAL_]{ENDPOINT,PROTOCOL,HEADERS,TIMEOUT,COMPRESSION,CERTIFICATE,
// CLIENT_CERTIFICATE,CLIENT_KEY,INSECURE}, the SIGNAL form first. Zipkin takes nothing
// from the environment. Empty when neither names an endpoint. A value that weir cannot
// follow is an error that names the variable or the URL, never a header's value.
base::Result<std::optional<Collector>> FindCollector(const std::optional<NamedCollector>& named,
                                                     Signal signal, const EnvironmentRule& rule,
                                                     const GetEnvironment& get);

}  // namespace weir::telemetry
