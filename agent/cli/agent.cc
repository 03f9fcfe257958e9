#include "agent/cli/agent.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <grp.h>
#include <sys/stat.h>

#include <utility>

#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

constexpr std::size_t kMaxAnswerBytes = 64U << 20U;
constexpr std::size_t kMaxLineBytes = 1U << 20U;

// Group that may read the socket, as text; empty if it cannot be told.
std::string GroupOf(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return {};
  }
  const group* entry = ::getgrgid(status.st_gid);
  return entry != nullptr ? entry->gr_name : std::to_string(status.st_gid);
}

}  // namespace

Outcome<void> FromJson(std::string_view json, google::protobuf::Message& message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &message, options);
  if (!status.ok()) {
    return std::unexpected(Failure{.exit_code = kExitVersion,
                                   .what = "cannot understand the agent's answer",
                                   .why = status.ToString(),
                                   .remedy = "use the weir command of the agent's version"});
  }
  return {};
}

std::string ToPrettyJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // Fails only for messages that are not UTF-8, which were parsed from JSON here.
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  return json;
}

std::string ToJson(const google::protobuf::Message& message) {
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json);  // as above
  return json;
}

Failure RefusedQuery(const std::string& message, std::size_t column,
                     const std::vector<std::string>& candidates, const std::string& expression) {
  Failure failure{.exit_code = kExitUsage, .what = message, .why = {}, .remedy = {}};
  if (column != 0) {
    failure.what = fmt::format("the filter is wrong in column {}: {}", column, message);
    failure.why = "\n  " + expression + "\n  " + std::string(column - 1, ' ') + "^";
    failure.remedy = candidates.empty() ? "weir help filter" : "one of " + Join(candidates, ", ");
  }
  return failure;
}

Agent::Agent(std::string socket_path, std::chrono::milliseconds timeout)
    : path_(std::move(socket_path)),
      limits_{.timeout = timeout, .body_bytes = kMaxAnswerBytes},
      connection_(client::HttpPeer::Unix(path_)) {}

Failure Agent::CannotReach(const base::Error& error) const {
  const std::string what = "cannot reach the agent at " + path_ + ": " + error.message();
  switch (error.code()) {
    case base::ErrorCode::kPermission: {
      const std::string group = GroupOf(path_);
      return {.exit_code = kExitPermission,
              .what = "no right to the agent's socket " + path_,
              .why = group.empty() ? "only root and the socket's group may use it"
                                   : "only root and group " + group + " may use it",
              .remedy = group.empty() || group == "root" ? "run the command with sudo"
                                                         : "sudo usermod --append --groups " +
                                                               group + " $USER, then log in again"};
    }
    case base::ErrorCode::kNotFound:
      return {.exit_code = kExitUnreachable,
              .what = "cannot reach the agent: there is no socket " + path_,
              .why = "no agent runs on this node, or its admin.socket is another one",
              .remedy = "systemctl status weir-agent, or weir --socket PATH"};
    case base::ErrorCode::kTimeout:
      return {.exit_code = kExitUnreachable,
              .what = what,
              .why = "the agent is there but did not answer in time",
              .remedy = "weir --timeout 30s, or journalctl -u weir-agent"};
    case base::ErrorCode::kProtocol:
      return {.exit_code = kExitVersion,
              .what = what,
              .why = "whoever listens there does not speak weir's admin API",
              .remedy = "weir --socket PATH"};
    case base::ErrorCode::kInvalidArgument:
    case base::ErrorCode::kAlreadyExists:
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kLimit:
    case base::ErrorCode::kSystem:
    case base::ErrorCode::kInternal:
      break;
  }
  return {.exit_code = kExitUnreachable,
          .what = what,
          .why = "the agent has stopped or is starting",
          .remedy = "systemctl status weir-agent"};
}

Failure Agent::Refused(const client::HttpResponse& response, const std::string& target,
                       const std::string& expression) {
  v1::ErrorReply reply;
  if (!FromJson(response.body, reply) || reply.message().empty()) {
    return {.exit_code = kExitVersion,
            .what = fmt::format("the agent answered {} to {}", response.status, target),
            .why = "its version and the command's do not fit",
            .remedy = "weir version"};
  }
  Failure failure{
      .exit_code = kExitUnreachable, .what = reply.message(), .why = {}, .remedy = reply.remedy()};
  if (response.status == 400) {
    failure.exit_code = kExitUsage;
  } else if (response.status == 403) {
    failure.exit_code = kExitPermission;
  } else if (response.status == 404) {
    failure.exit_code = kExitNegative;
  }
  return reply.column() == 0
             ? failure
             : RefusedQuery(reply.message(), reply.column(),
                            {reply.candidates().begin(), reply.candidates().end()}, expression);
}

Outcome<void> Agent::Get(const std::string& target, google::protobuf::Message& message) {
  const auto response = connection_.Send({.target = target}, limits_);
  if (!response) {
    return std::unexpected(CannotReach(response.error()));
  }
  if (response->status != 200) {
    return std::unexpected(Refused(*response, target, {}));
  }
  return FromJson(response->body, message);
}

Outcome<void> Agent::Stream(const std::string& target, const std::string& expression,
                            const OnLine& on_line) {
  std::string pending;
  bool ended = false;
  const auto on_chunk = [&](std::string_view chunk) {
    pending += chunk;
    std::size_t begin = 0;
    for (std::size_t end = 0; !ended && (end = pending.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      ended = !on_line(std::string_view(pending).substr(begin, end - begin));
    }
    pending.erase(0, begin);
    return !ended && pending.size() < kMaxLineBytes;
  };
  const auto response = connection_.Stream({.target = target}, on_chunk, limits_);
  if (!response) {
    return std::unexpected(CannotReach(response.error()));
  }
  if (response->status != 200) {
    return std::unexpected(Refused(*response, target, expression));
  }
  return {};
}

}  // namespace weir::cli
