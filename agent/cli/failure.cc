#include "agent/cli/failure.h"

#include <cstdio>

namespace weir::cli {

int Report(const Failure& failure) {
  std::string text = "weir: " + failure.what + "\n";
  if (!failure.why.empty()) {
    text += "why: " + failure.why + "\n";
  }
  if (!failure.remedy.empty()) {
    text += "try: " + failure.remedy + "\n";
  }
  (void)std::fputs(text.c_str(), stderr);  // there is nobody else to tell
  return failure.exit_code;
}

Failure FromError(const base::Error& error) {
  int code = kExitNegative;
  switch (error.code()) {
    case base::ErrorCode::kInvalidArgument:
      code = kExitUsage;
      break;
    case base::ErrorCode::kPermission:
      code = kExitPermission;
      break;
    case base::ErrorCode::kInternal:
      code = kExitBug;
      break;
    case base::ErrorCode::kNotFound:
    case base::ErrorCode::kAlreadyExists:
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kProtocol:
    case base::ErrorCode::kTimeout:
    case base::ErrorCode::kLimit:
    case base::ErrorCode::kSystem:
      break;
  }
  return {.exit_code = code, .what = error.message(), .why = {}, .remedy = error.remedy()};
}

}  // namespace weir::cli
