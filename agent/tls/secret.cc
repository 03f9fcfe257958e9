#include "agent/tls/secret.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/base/check.h"
#include "agent/base/unique_fd.h"

namespace weir::tls {

Secret::Secret(std::string_view bytes) {
  if (bytes.empty()) {
    return;
  }
  Allocate(bytes.size());
  std::memcpy(data_, bytes.data(), bytes.size());
  size_ = bytes.size();
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_bytes_ = std::exchange(other.mapped_bytes_, 0);
  }
  return *this;
}

void Secret::Allocate(std::size_t capacity) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t rounded = (capacity + page - 1) / page * page;
  void* pages =
      ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  WEIR_CHECK(pages != MAP_FAILED);
  // Only a kernel built without core dumps refuses this, and then there is no dump.
  (void)::madvise(pages, rounded, MADV_DONTDUMP);
  data_ = static_cast<char*>(pages);
  mapped_bytes_ = rounded;
}

void Secret::Wipe() {
  if (data_ != nullptr) {
    ::explicit_bzero(data_, mapped_bytes_);
    (void)::munmap(data_, mapped_bytes_);  // cannot fail for a mapping of ours
  }
  data_ = nullptr;
  size_ = mapped_bytes_ = 0;
}

base::Result<Secret> Secret::ReadFile(const std::string& path, std::size_t limit_bytes) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return base::SystemError("open " + path);
  }
  Secret secret;
  secret.Allocate(limit_bytes + 1);  // the one more tells a file at the limit from a longer one
  while (secret.size_ <= limit_bytes) {
    const ssize_t got =
        ::read(fd.get(), secret.data_ + secret.size_, limit_bytes + 1 - secret.size_);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return base::SystemError("read " + path);
    }
    if (got == 0) {
      return secret;
    }
    secret.size_ += static_cast<std::size_t>(got);
  }
  return base::MakeError(base::ErrorCode::kLimit, path + " is larger than the limit of " +
                                                      std::to_string(limit_bytes) + " bytes");
}

}  // namespace weir::tls
