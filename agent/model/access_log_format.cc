#include "agent/model/access_log_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/error.h"

namespace weir::model {
namespace {

enum class Argument : std::uint8_t { kNone, kHeader, kTime };

struct OperatorRule {
  std::string_view name;
  LogOperator op;
  Argument argument = Argument::kNone;
};

constexpr std::array kOperators = std::to_array<OperatorRule>({
    {.name = "START_TIME", .op = LogOperator::kStartTime, .argument = Argument::kTime},
    {.name = "REQ", .op = LogOperator::kRequestHeader, .argument = Argument::kHeader},
    {.name = "RESP", .op = LogOperator::kResponseHeader, .argument = Argument::kHeader},
    {.name = "PROTOCOL", .op = LogOperator::kProtocol},
    {.name = "RESPONSE_CODE", .op = LogOperator::kResponseCode},
    {.name = "RESPONSE_CODE_DETAILS", .op = LogOperator::kResponseCodeDetails},
    {.name = "RESPONSE_FLAGS", .op = LogOperator::kResponseFlags},
    {.name = "BYTES_RECEIVED", .op = LogOperator::kBytesReceived},
    {.name = "BYTES_SENT", .op = LogOperator::kBytesSent},
    {.name = "DURATION", .op = LogOperator::kDuration},
    {.name = "REQUEST_DURATION", .op = LogOperator::kRequestDuration},
    {.name = "RESPONSE_DURATION", .op = LogOperator::kResponseDuration},
    {.name = "UPSTREAM_HOST", .op = LogOperator::kDestinationAddress},
    {.name = "TRACE_ID", .op = LogOperator::kTraceId},
    {.name = "SPAN_ID", .op = LogOperator::kSpanId},
    {.name = "DOWNSTREAM_PEER_URI_SAN", .op = LogOperator::kDownstreamPeerUriSan},
    {.name = "DOWNSTREAM_LOCAL_URI_SAN", .op = LogOperator::kDownstreamLocalUriSan},
    {.name = "UPSTREAM_PEER_URI_SAN", .op = LogOperator::kUpstreamPeerUriSan},
    {.name = "DOWNSTREAM_REMOTE_ADDRESS", .op = LogOperator::kSourceAddress},
    {.name = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", .op = LogOperator::kSourceIp},
    {.name = "DOWNSTREAM_LOCAL_ADDRESS", .op = LogOperator::kDestinationAddress},
    {.name = "REQUESTED_SERVER_NAME", .op = LogOperator::kRequestedServerName},
    {.name = "DOWNSTREAM_TLS_VERSION", .op = LogOperator::kDownstreamTlsVersion},
    {.name = "CONNECTION_ID", .op = LogOperator::kConnectionId},
    {.name = "HOSTNAME", .op = LogOperator::kHostname},
    {.name = "KUMA_SOURCE_ADDRESS", .op = LogOperator::kSourceAddress},
    {.name = "KUMA_SOURCE_ADDRESS_WITHOUT_PORT", .op = LogOperator::kSourceIp},
    {.name = "KUMA_SOURCE_SERVICE", .op = LogOperator::kKumaSourceService},
    {.name = "KUMA_DESTINATION_SERVICE", .op = LogOperator::kKumaDestinationService},
    {.name = "KUMA_MESH", .op = LogOperator::kLiteral},
    {.name = "KUMA_TRAFFIC_DIRECTION", .op = LogOperator::kKumaTrafficDirection},
    {.name = "KUMA_ZONE", .op = LogOperator::kKumaZone},
    {.name = "KUMA_WORKLOAD", .op = LogOperator::kKumaWorkload},
});

// What records keep of a message's headers, its pseudo-headers included.
constexpr std::array<std::string_view, 12> kRequestHeaders = {
    ":method",     ":path",        ":authority",        ":scheme",
    "host",        "user-agent",   "x-forwarded-for",   "x-forwarded-host",
    "traceparent", "x-b3-traceid", "x-forwarded-proto", "x-b3-spanid"};
constexpr std::array<std::string_view, 2> kResponseHeaders = {":status",
                                                              "x-envoy-upstream-service-time"};

std::unexpected<base::Error> Refuse(std::string text) {
  return base::MakeError(base::ErrorCode::kInvalidArgument, std::move(text));
}

bool IsRecorded(LogOperator op, std::string_view header) {
  const auto has = [&](const auto& names) {
    return std::ranges::find(names, header) != names.end();
  };
  return op == LogOperator::kRequestHeader ? has(kRequestHeaders) : has(kResponseHeaders);
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  });
  return lower;
}

// Whether `text` is a strftime format of specifiers that rendering knows.
bool IsTimeFormat(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      continue;
    }
    ++at;
    if (at + 1 < text.size() && text[at] >= '1' && text[at] <= '9') {
      ++at;
      if (text[at] != 'f') {
        return false;
      }
    } else if (at >= text.size() || !std::string_view("YymdHMSTFzZsfejba%").contains(text[at])) {
      return false;
    }
  }
  return text.size() <= 64;
}

// Cuts the operators out of one text.
class Compiler {
 public:
  Compiler(std::string_view rest, std::string_view mesh) : rest_(rest), mesh_(mesh) {}

  base::Result<LogText> Run() {
    while (!rest_.empty()) {
      const std::size_t percent = rest_.find('%');
      AddLiteral(rest_.substr(0, percent));
      if (percent == std::string_view::npos) {
        break;
      }
      rest_.remove_prefix(percent + 1);
      if (rest_.starts_with('%')) {
        AddLiteral("%");
        rest_.remove_prefix(1);
      } else if (auto done = TakeOperator(); !done) {
        return std::unexpected(std::move(done).error());
      }
    }
    return std::move(text_);
  }

 private:
  void AddLiteral(std::string_view literal) {
    if (literal.empty()) {
      return;
    }
    if (text_.pieces.empty() || text_.pieces.back().op != LogOperator::kLiteral) {
      text_.pieces.push_back({});
    }
    text_.pieces.back().text += literal;
  }

  // "NAME(ARGUMENT):LIMIT%", the '%' before it being taken.
  base::Result<void> TakeOperator() {
    const std::size_t name_end =
        std::min(rest_.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"), rest_.size());
    const std::string name(rest_.substr(0, name_end));
    rest_.remove_prefix(name_end);
    const auto* const rule = std::ranges::find(kOperators, name, &OperatorRule::name);
    if (rule == kOperators.end()) {
      return Refuse("unknown operator \"%" + name + "%\"; a percent sign itself is \"%%\"");
    }
    std::optional<std::string_view> argument;
    if (rest_.starts_with('(')) {
      const std::size_t end = rest_.find(')');
      if (end == std::string_view::npos) {
        return Refuse("the argument of %" + name + " has no end");
      }
      argument = rest_.substr(1, end - 1);
      rest_.remove_prefix(end + 1);
    }
    LogPiece piece{.op = rule->op, .text = {}, .alternative = {}};
    if (rest_.starts_with(':')) {
      const auto [end, error] =
          std::from_chars(rest_.data() + 1, rest_.data() + rest_.size(), piece.limit_bytes);
      if (error != std::errc() || piece.limit_bytes == 0) {
        return Refuse("the length behind %" + name + ": must be a number from 1");
      }
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    }
    if (!rest_.starts_with('%')) {
      return Refuse("no \"%\" ends %" + name);
    }
    rest_.remove_prefix(1);
    return AddOperator(*rule, argument, std::move(piece));
  }

  base::Result<void> AddOperator(const OperatorRule& rule, std::optional<std::string_view> argument,
                                 LogPiece piece) {
    const std::string name(rule.name);
    if (rule.op == LogOperator::kLiteral && !argument) {
      AddLiteral(mesh_);
      return {};
    }
    if (++operators_ > kMaxLogOperators) {
      return Refuse("at most " + std::to_string(kMaxLogOperators) + " operators");
    }
    switch (rule.argument) {
      case Argument::kNone:
        if (argument) {
          return Refuse("%" + name + "% takes no argument");
        }
        break;
      case Argument::kTime:
        if (argument && !IsTimeFormat(*argument)) {
          return Refuse("the format of %" + name + "% has a specifier that is not known");
        }
        piece.text = argument.value_or("");
        break;
      case Argument::kHeader:
        if (!argument || argument->empty() || argument->size() > 256) {
          return Refuse("%" + name + "% needs the name of a header in parentheses");
        }
        TakeHeaders(*argument, piece);
        break;
    }
    text_.pieces.push_back(std::move(piece));
    return {};
  }

  // "X" or "X?Y".
  void TakeHeaders(std::string_view argument, LogPiece& piece) {
    const std::size_t mark = argument.find('?');
    piece.text = LowerCase(argument.substr(0, mark));
    if (mark != std::string_view::npos) {
      piece.alternative = LowerCase(argument.substr(mark + 1));
    }
    if (!IsRecorded(piece.op, piece.text) && !IsRecorded(piece.op, piece.alternative)) {
      text_.unrecorded.push_back(piece.text);
    }
  }

  std::string_view rest_;
  std::string_view mesh_;
  LogText text_;
  std::size_t operators_ = 0;
};

}  // namespace

base::Result<LogText> CompileLogText(std::string_view text, std::string_view mesh) {
  if (text.ends_with('\n')) {
    text.remove_suffix(1);
  }
  if (text.size() > kMaxLogTextBytes) {
    return Refuse("at most " + std::to_string(kMaxLogTextBytes) + " bytes");
  }
  const bool has_control = std::ranges::any_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  });
  if (has_control) {
    return Refuse("no control characters and no line breaks but at the end");
  }
  return Compiler(text, mesh).Run();
}

}  // namespace weir::model
