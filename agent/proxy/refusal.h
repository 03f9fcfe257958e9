#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/observe/record.h"

// How the agent that refuses a CONNECT tells the one that asked why.
namespace weir::proxy {

// The header field of a refusal that carries the reason's text (observe::ToString). Agents
// of others send none, and ignore ours.
inline constexpr std::string_view kReasonField = "x-weir-reason";

// What a CONNECT is answered with when there is no stream to be had for `reason`.
std::uint16_t StatusOf(observe::Reason reason);

// What the flow says of a refusal with `status`, from `said`, its kReasonField. Only
// reasons that a refusing agent can have are believed; everything else that is said becomes
// kTunnelRefused. A peer's identity that does not fit is ours then: kRefusedByPeer. Without a
// field the status decides, as far as it tells reasons apart.
observe::Reason ReasonOfRefusal(std::uint16_t status, std::optional<std::string_view> said);

}  // namespace weir::proxy
