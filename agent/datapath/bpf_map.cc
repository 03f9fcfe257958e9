#include "agent/datapath/bpf_map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <numeric>

namespace weir::datapath {
namespace internal {

int UpdateElement(int map_fd, const void* key, const void* value, std::uint64_t flags) {
  return ::bpf_map_update_elem(map_fd, key, value, flags) == 0 ? 0 : errno;
}
int LookupElement(int map_fd, const void* key, void* value) {
  return ::bpf_map_lookup_elem(map_fd, key, value) == 0 ? 0 : errno;
}
int TakeElement(int map_fd, const void* key, void* value) {
  return ::bpf_map_lookup_and_delete_elem(map_fd, key, value) == 0 ? 0 : errno;
}
int DeleteElement(int map_fd, const void* key) {
  return ::bpf_map_delete_elem(map_fd, key) == 0 ? 0 : errno;
}
int NextKey(int map_fd, const void* key, void* next) {
  return ::bpf_map_get_next_key(map_fd, key, next) == 0 ? 0 : errno;
}

}  // namespace internal

std::uint64_t MapSum(int map_fd, std::uint32_t index) {
  const int cpus = ::libbpf_num_possible_cpus();
  std::vector<std::uint64_t> values(cpus > 0 ? static_cast<std::size_t>(cpus) : 1);
  if (cpus <= 0 || ::bpf_map_lookup_elem(map_fd, &index, values.data()) != 0) {
    return 0;
  }
  return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

base::Result<void> PinMap(int map_fd, const std::string& path) {
  const std::string fresh = path + "_new";
  (void)::unlink(fresh.c_str());  // of an attempt that was cut short
  if (::bpf_obj_pin(map_fd, fresh.c_str()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0) {
    auto error = base::SystemError("pin " + path);
    (void)::unlink(fresh.c_str());
    return error;
  }
  return {};
}

base::UniqueFd OpenPinnedMap(const std::string& path, std::uint32_t key_bytes,
                             std::uint32_t value_bytes) {
  base::UniqueFd fd(::bpf_obj_get(path.c_str()));
  bpf_map_info info{};
  std::uint32_t length = sizeof(info);
  if (!fd.valid() || ::bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0 ||
      info.key_size != key_bytes || info.value_size != value_bytes) {
    return {};
  }
  return fd;
}

}  // namespace weir::datapath
