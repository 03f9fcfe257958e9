#pragma once

#include "agent/base/error.h"

namespace weir::daemon {

// Exit statuses of weir-agent (weir-agent(8)). Distinct, so that a unit's
// RestartPreventExitStatus= can name those that a restart does not cure.
inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitConfiguration = 10;  // agent.yaml or the documents
inline constexpr int kExitPrivileges = 11;
inline constexpr int kExitKernel = 12;       // a feature or a mount is missing
inline constexpr int kExitCertificate = 13;  // the node's certificate authority
inline constexpr int kExitAdminSocket = 14;  // in use, or its directory cannot be written
inline constexpr int kExitRunning = 15;      // another agent works on the same things
inline constexpr int kExitOther = 70;

// The status for an error of the kernel side.
constexpr int ExitStatusOf(base::ErrorCode code) {
  switch (code) {
    case base::ErrorCode::kPermission:
      return kExitPrivileges;
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kNotFound:
      return kExitKernel;
    case base::ErrorCode::kAlreadyExists:
      return kExitRunning;
    case base::ErrorCode::kInvalidArgument:
      return kExitConfiguration;
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kProtocol:
    case base::ErrorCode::kTimeout:
    case base::ErrorCode::kLimit:
    case base::ErrorCode::kSystem:
    case base::ErrorCode::kInternal:
      return kExitOther;
  }
  return kExitOther;
}

}  // namespace weir::daemon
