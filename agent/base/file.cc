#include "agent/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "agent/base/unique_fd.h"

namespace weir::base {

Result<std::string> ReadFile(const std::string& path, std::size_t limit_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return SystemError("open " + path);
  }
  std::string content;
  std::array<char, 16384> chunk{};
  for (;;) {
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return SystemError("read " + path);
    }
    if (got == 0) {
      return content;
    }
    if (content.size() + static_cast<std::size_t>(got) > limit_bytes) {
      return MakeError(ErrorCode::kLimit, path + " is larger than the limit of " +
                                              std::to_string(limit_bytes) + " bytes");
    }
    content.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

Result<void> WriteFileAtomically(const std::string& path, std::string_view content, unsigned mode) {
  std::string temporary = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) {
    return SystemError("create " + temporary);
  }
  const auto fail = [&](std::string_view verb) {
    auto error = SystemError(std::string(verb) + " " + temporary);
    (void)::unlink(temporary.c_str());
    return error;
  };
  if (::fchmod(fd.get(), static_cast<mode_t>(mode)) != 0) {
    return fail("chmod");
  }
  while (!content.empty()) {
    const ssize_t written = ::write(fd.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return fail("write");
    }
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd.get()) != 0) {
    return fail("sync");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return fail("rename");
  }
  return {};
}

}  // namespace weir::base
