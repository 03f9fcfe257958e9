#include "agent/base/error.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace weir::base {
namespace {

ErrorCode CodeOf(int sys_errno) {
  switch (sys_errno) {
    case EPERM:
    case EACCES:
      return ErrorCode::kPermission;
    case ENOENT:
    case ESRCH:
    case ENODEV:
      return ErrorCode::kNotFound;
    case EEXIST:
    case EADDRINUSE:
      return ErrorCode::kAlreadyExists;
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return ErrorCode::kUnavailable;
    case ENOSYS:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
      return ErrorCode::kUnsupported;
    case ETIMEDOUT:
      return ErrorCode::kTimeout;
    default:
      return ErrorCode::kSystem;
  }
}

}  // namespace

std::string_view ToString(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid-argument";
    case ErrorCode::kNotFound:
      return "not-found";
    case ErrorCode::kAlreadyExists:
      return "already-exists";
    case ErrorCode::kPermission:
      return "permission";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kProtocol:
      return "protocol";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kLimit:
      return "limit";
    case ErrorCode::kSystem:
      return "system";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

std::string Error::ToString() const {
  return remedy_.empty() ? message_ : message_ + "; try: " + remedy_;
}

std::unexpected<Error> SystemError(std::string_view what) {
  return SystemError(what, errno);
}

std::unexpected<Error> SystemError(std::string_view what, int sys_errno) {
  std::array<char, 128> buffer{};
  // GNU strerror_r: the text may or may not be in `buffer`.
  const char* text = ::strerror_r(sys_errno, buffer.data(), buffer.size());
  return std::unexpected(Error(CodeOf(sys_errno), std::string(what) + ": " + text, sys_errno));
}

std::unexpected<Error> MakeError(ErrorCode code, std::string message) {
  return std::unexpected(Error(code, std::move(message)));
}

}  // namespace weir::base
