#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace weir::base {

// Kind of a failure, for the caller that must branch or choose an exit status.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  // the caller's or the user's input is wrong
  kNotFound,
  kAlreadyExists,
  kPermission,
  kUnavailable,  // may work later: peer away, resource exhausted
  kUnsupported,  // this kernel or library lacks it
  kProtocol,     // a peer broke its protocol
  kTimeout,
  kLimit,   // a configured limit is reached
  kSystem,  // a system call failed otherwise; sys_errno() says how
  kInternal,
};

// Text of `code` as configuration, metrics and JSON show it, for example "not-found".
std::string_view ToString(ErrorCode code);

// Error is a failure with the facts known where it happened: verb, object, errno,
// and, where the user can do something, the remedy.
class Error {
 public:
  Error(ErrorCode code, std::string message) : message_(std::move(message)), code_(code) {}
  Error(ErrorCode code, std::string message, int sys_errno)
      : message_(std::move(message)), sys_errno_(sys_errno), code_(code) {}

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] int sys_errno() const { return sys_errno_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  [[nodiscard]] const std::string& remedy() const { return remedy_; }

  // Adds what the user can do about it, as a command or a setting where possible.
  Error&& WithRemedy(std::string remedy) && {
    remedy_ = std::move(remedy);
    return std::move(*this);
  }

  // One line: message, and "; try: REMEDY" if there is one.
  [[nodiscard]] std::string ToString() const;

 private:
  std::string message_;
  std::string remedy_;
  int sys_errno_ = 0;
  ErrorCode code_;
};

template <typename T>
using Result = std::expected<T, Error>;

// SystemError turns the current errno into an Error "WHAT: strerror"; the code
// follows errno (EPERM and EACCES permission, ENOENT not-found, EEXIST
// already-exists, EAGAIN/EMFILE/ENFILE/ENOBUFS unavailable, ...). Any thread.
std::unexpected<Error> SystemError(std::string_view what);
std::unexpected<Error> SystemError(std::string_view what, int sys_errno);

// MakeError is std::unexpected(Error(code, message)).
std::unexpected<Error> MakeError(ErrorCode code, std::string message);

}  // namespace weir::base
