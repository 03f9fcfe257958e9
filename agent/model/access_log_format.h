#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.h"

// The formats of access logs, compiled when a document is loaded: Envoy's command operators
// ("%DURATION%") and Kuma's own ("%KUMA_MESH%"). Pure; rendering is telemetry's.
namespace weir::model {

enum class LogOperator : std::uint8_t {
  kLiteral,
  kStartTime,  // UTC; the argument is a strftime format, with %f and %1f to %9f for fractions
  kRequestHeader,
  kResponseHeader,
  kProtocol,             // HTTP/1.1, HTTP/2
  kResponseCode,         // 0: none was seen
  kResponseCodeDetails,  // via_upstream, or weir's reason
  kResponseFlags,        // Envoy's letters for weir's reason
  kBytesReceived,        // from the client, heads included
  kBytesSent,            // to the client, heads included
  kDuration,             // milliseconds, as the next two
  kRequestDuration,      // not recorded: absent
  kResponseDuration,     // until the first byte of the response
  kDestinationAddress,   // UPSTREAM_HOST, DOWNSTREAM_LOCAL_ADDRESS
  kSourceAddress,        // DOWNSTREAM_REMOTE_ADDRESS, KUMA_SOURCE_ADDRESS
  kSourceIp,             // the same _WITHOUT_PORT
  kTraceId,
  kSpanId,
  kDownstreamPeerUriSan,
  kDownstreamLocalUriSan,
  kUpstreamPeerUriSan,
  kRequestedServerName,
  kDownstreamTlsVersion,
  kConnectionId,
  kHostname,  // the node's name
  kKumaSourceService,
  kKumaDestinationService,
  kKumaTrafficDirection,
  kKumaZone,
  kKumaWorkload,
};

// One piece of a format: a literal, or an operator.
struct LogPiece {
  LogOperator op = LogOperator::kLiteral;
  std::string text;             // the literal, the header in lower case, or the time's format
  std::string alternative;      // of a header: which one to take without the first
  std::size_t limit_bytes = 0;  // ":Z" behind an operator; 0: none but the general limit
};

// A text with operators in it. Names of headers that no record has, so that they are always
// absent, stand in `unrecorded`, for a warning.
struct LogText {
  std::vector<LogPiece> pieces;
  std::vector<std::string> unrecorded;
};

inline constexpr std::size_t kMaxLogTextBytes = 8192;
inline constexpr std::size_t kMaxLogOperators = 64;
inline constexpr std::size_t kMaxLogFields = 64;  // of a Json format
// A value in a line is cut at this, on a character border.
inline constexpr std::size_t kMaxLogValueBytes = 1024;

// Compiles "... %OPERATOR(ARGUMENT):LIMIT% ..."; "%%" is a percent sign, a line break at the
// end is left out. %KUMA_MESH% becomes `mesh`. An operator that is unknown, has an argument
// that it does not take or lacks one that it needs, a '%' without its partner, a control
// character, and what is beyond the limits above are kInvalidArgument, with the operator's
// name in the message.
base::Result<LogText> CompileLogText(std::string_view text, std::string_view mesh);

// A whole format: one text (Plain), or the fields of one JSON object a line (Json).
struct LogFormat {
  bool is_json = false;
  bool omit_empty = false;  // an absent value is "" (Plain), or its field left out (Json)
  LogText plain{};
  std::vector<std::pair<std::string, LogText>> fields{};
};

// Kuma's default formats, of a request and of a connection.
inline constexpr std::string_view kDefaultHttpLogText =
    R"([%START_TIME%] %KUMA_MESH% "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" )"
    R"(%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% )"
    R"(%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" )"
    R"("%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" )"
    R"("%KUMA_SOURCE_SERVICE%" "%KUMA_DESTINATION_SERVICE%" )"
    R"("%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%" "%UPSTREAM_HOST%")";
inline constexpr std::string_view kDefaultTcpLogText =
    "[%START_TIME%] %RESPONSE_FLAGS% %KUMA_MESH% "
    "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->"
    "%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) took %DURATION%ms, sent %BYTES_SENT% bytes, "
    "received: %BYTES_RECEIVED% bytes";

}  // namespace weir::model
