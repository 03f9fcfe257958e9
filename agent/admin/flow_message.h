#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/admin/flow_store.h"
#include "agent/observe/record.h"

namespace google::protobuf {
class Message;
}
namespace weir::v1 {
class Flow;
}

namespace weir::admin {

// The message of a stored flow, as seen by the agent of `node`.
v1::Flow ToMessage(const StoredFlow& stored, std::string_view node);

// The flow of a message, as far as it says: labels and what only the agent knows are missing.
// Empty when the message holds a word, an address or an identity that is none here.
std::optional<observe::Flow> FromMessage(const v1::Flow& message);

// JSON by the proto3 mapping, on one line without an end of line. With `with_defaults`
// fields that are zero or empty are written too. "{}" if the message holds text that is
// not UTF-8 (ToMessage never makes such).
std::string ToJson(const google::protobuf::Message& message, bool with_defaults);

}  // namespace weir::admin
