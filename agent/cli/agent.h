#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/cli/failure.h"
#include "agent/client/http_client.h"

namespace google::protobuf {
class Message;
}

namespace weir::cli {

// Reads a message from JSON; fields that this version does not know are passed over.
Outcome<void> FromJson(std::string_view json, google::protobuf::Message& message);

// JSON of a message, indented, with its end of line.
std::string ToPrettyJson(const google::protobuf::Message& message);

// The same on one line, without members that say nothing.
std::string ToJson(const google::protobuf::Message& message);

// Why a query is refused; with a `column` of the filter `expression` (from 1; 0: it is not the
// filter) and what could have stood there.
Failure RefusedQuery(const std::string& message, std::size_t column,
                     const std::vector<std::string>& candidates, const std::string& expression);

// Agent is the admin API behind one Unix socket. One thread, but for Cancel.
class Agent {
 public:
  // False ends the stream.
  using OnLine = std::function<bool(std::string_view line)>;

  Agent(std::string socket_path, std::chrono::milliseconds timeout);

  // The answer of GET `target` as its message.
  Outcome<void> Get(const std::string& target, google::protobuf::Message& message);
  // Calls `on_line` with each line of GET `target`, without its end. `expression` is the
  // filter in `target`, for the message when the agent refuses it.
  Outcome<void> Stream(const std::string& target, const std::string& expression,
                       const OnLine& on_line);
  // Ends what is under way with kUnreachable. Any thread.
  void Cancel() noexcept { connection_.Cancel(); }
  [[nodiscard]] const std::string& socket_path() const { return path_; }

 private:
  [[nodiscard]] Failure CannotReach(const base::Error& error) const;
  [[nodiscard]] static Failure Refused(const client::HttpResponse& response,
                                       const std::string& target, const std::string& expression);

  std::string path_;
  client::HttpLimits limits_;
  client::HttpConnection connection_;
};

}  // namespace weir::cli
