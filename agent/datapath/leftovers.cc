#include "agent/datapath/leftovers.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/netns.h"
#include "agent/datapath/pin_directory.h"
#include "agent/datapath/reply_route.h"

namespace weir::datapath {
namespace {

constexpr std::string_view kOurs = "weir_";  // what the names of our programs and maps begin with
constexpr std::size_t kMaxMountinfoBytes = 4U << 20U;
constexpr std::size_t kMaxFdinfoBytes = 4096;
constexpr std::size_t kMaxPinFiles = 4096;  // looked at in all BPF file systems together

// What /proc/PID/fd calls a link: the kernel has two spellings, for the descriptor that made it
// and for a later one (kernel/bpf/syscall.c, bpf_link_prime and bpf_link_new_fd).
bool IsLinkName(std::string_view target) {
  return target.find("bpf_link") != std::string_view::npos ||
         target.find("bpf-link") != std::string_view::npos;
}

bool IsNumber(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// One link that runs a program of ours.
struct Link {
  std::string program;
  std::uint32_t netns_inode = 0;  // 0: not on a namespace
  bool owned = false;
  bool seen_pinned = false;
};
using Links = std::map<std::uint32_t, Link>;  // by the kernel's id

// A pin of ours in one directory.
struct Pin {
  std::string path;
  std::string directory;
  bool owned = false;
};

std::optional<bpf_link_info> LinkInfo(int fd) {
  bpf_link_info info{};
  std::uint32_t length = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &length) != 0) {
    return std::nullopt;
  }
  return info;
}

std::string ProgramName(std::uint32_t id) {
  const base::UniqueFd fd(::bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  std::uint32_t length = sizeof(info);
  const bool known = fd.valid() && ::bpf_obj_get_info_by_fd(fd.get(), &info, &length) == 0;
  return known ? std::string(info.name, ::strnlen(info.name, sizeof(info.name))) : std::string();
}

base::Result<Links> AllLinks() {
  Links links;
  std::uint32_t id = 0;
  while (::bpf_link_get_next_id(id, &id) == 0) {
    const base::UniqueFd fd(::bpf_link_get_fd_by_id(id));
    const auto info = fd.valid() ? LinkInfo(fd.get()) : std::nullopt;
    if (!info) {
      continue;  // gone meanwhile
    }
    if (std::string name = ProgramName(info->prog_id); name.starts_with(kOurs)) {
      links[id] = {.program = std::move(name),
                   .netns_inode = info->type == BPF_LINK_TYPE_NETNS ? info->netns.netns_ino : 0};
    }
  }
  if (errno != ENOENT) {
    return base::SystemError("list the kernel's BPF links");
  }
  return links;
}

// The id in the fdinfo of a link's descriptor.
std::optional<std::uint32_t> LinkIdOf(const std::string& fdinfo_path) {
  constexpr std::string_view kField = "link_id:\t";
  const auto text = base::ReadFile(fdinfo_path, kMaxFdinfoBytes);
  const std::size_t at = text ? text->find(kField) : std::string::npos;
  std::uint32_t id = 0;
  if (at == std::string::npos ||
      std::from_chars(text->data() + at + kField.size(), text->data() + text->size(), id).ec !=
          std::errc()) {
    return std::nullopt;
  }
  return id;
}

// Marks the links that the process holds; false when it may not be looked at.
bool MarkHeldBy(const std::string& process, Links& links) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(process + "/fd", error)) {
    std::array<char, 64> target{};
    const ssize_t length = ::readlink(entry.path().c_str(), target.data(), target.size());
    const std::string_view name(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    if (!IsLinkName(name)) {
      continue;
    }
    const auto id = LinkIdOf(process + "/fdinfo/" + entry.path().filename().string());
    if (const auto link = id ? links.find(*id) : links.end(); link != links.end()) {
      link->second.owned = true;
    }
  }
  return !error || error == std::errc::no_such_file_or_directory ||
         error == std::errc::no_such_process;
}

bool MarkHeld(Links& links) {
  bool complete = true;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const bool all = std::ranges::all_of(links, [](const auto& link) { return link.second.owned; });
    if (all) {
      break;
    }
    if (IsNumber(entry.path().filename().string())) {
      complete = MarkHeldBy(entry.path().string(), links) && complete;
    }
  }
  return complete && !error;
}

std::vector<std::string> BpfMounts() {
  std::vector<std::string> mounts;
  const auto text = base::ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes);
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" - bpf ") == std::string::npos) {
      continue;
    }
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) {
      words >> word;
    }
    mounts.push_back(word);
  }
  return mounts;
}

// Whether the pin at `path` is of ours; marks its link.
bool IsOurPin(const std::string& path, Links& links) {
  const base::UniqueFd fd(::bpf_obj_get(path.c_str()));
  if (!fd.valid()) {
    return false;
  }
  bpf_map_info map{};
  std::uint32_t length = sizeof(map);
  std::array<char, 64> target{};
  const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  const ssize_t got = ::readlink(self.c_str(), target.data(), target.size());
  const std::string_view kind(target.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  if (kind.find("bpf-map") != std::string_view::npos) {
    return ::bpf_obj_get_info_by_fd(fd.get(), &map, &length) == 0 &&
           std::string_view(map.name).starts_with(kOurs);
  }
  const auto info = IsLinkName(kind) ? LinkInfo(fd.get()) : std::nullopt;
  const auto link = info ? links.find(info->id) : links.end();
  if (link == links.end()) {
    return false;
  }
  link->second.seen_pinned = true;
  return true;
}

// Whether an agent holds the directory now.
bool IsLocked(const std::string& directory) {
  const base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.valid() && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

// Every file of the file system at `mount`. What goes while it is listed has it listed again.
std::vector<std::filesystem::path> FilesOf(const std::string& mount, bool& complete) {
  constexpr int kTries = 5;
  std::error_code error;
  for (int i = 0; i < kTries; ++i) {
    std::vector<std::filesystem::path> files;
    std::filesystem::recursive_directory_iterator at(mount, error);
    for (; !error && at != std::filesystem::end(at); at.increment(error)) {
      std::error_code gone;
      if (at->is_regular_file(gone)) {
        files.push_back(at->path());
      }
    }
    if (!error) {
      return files;
    }
    if (error != std::errc::no_such_file_or_directory) {
      break;
    }
  }
  // A file system that was unmounted meanwhile has nothing any more.
  complete = complete && !std::filesystem::exists(mount, error);
  return {};
}

// Our pins in every BPF file system. The links of owned ones are marked so.
std::vector<Pin> FindPins(const Options& options, Links& links, bool& complete) {
  std::vector<Pin> pins;
  std::map<std::string, bool> owned;  // by directory
  std::size_t looked_at = 0;
  for (const std::string& mount : BpfMounts()) {
    for (const auto& file : FilesOf(mount, complete)) {
      if (++looked_at > kMaxPinFiles || !IsOurPin(file.string(), links)) {
        continue;
      }
      const std::string directory = file.parent_path().string();
      const auto [known, is_new] = owned.try_emplace(directory);
      if (is_new) {
        known->second = directory == options.bpffs_dir || IsLocked(directory);
      }
      pins.push_back({.path = file.string(), .directory = directory, .owned = known->second});
    }
  }
  complete = complete && looked_at <= kMaxPinFiles;
  for (const Pin& pin : pins) {
    const base::UniqueFd fd(pin.owned ? ::bpf_obj_get(pin.path.c_str()) : -1);
    const auto info = fd.valid() ? LinkInfo(fd.get()) : std::nullopt;
    if (const auto link = info ? links.find(info->id) : links.end(); link != links.end()) {
      link->second.owned = true;
    }
  }
  return pins;
}

// Calls `visit` inside every namespace that has our routing and no owner.
template <typename Visit>
void ForEachStrayNamespace(const Links& links, bool& complete, Visit visit) {
  std::set<std::uint64_t> owned;
  for (const auto& [id, link] : links) {
    if (link.owned && link.netns_inode != 0) {
      owned.insert(link.netns_inode);
    }
  }
  const auto home = OpenOwnNetns();
  if (!home) {
    complete = false;
    return;
  }
  for (const base::UniqueFd& ns : AllNetns()) {
    const auto identity = IdentifyNetns(ns.get());
    if (!identity || owned.contains(identity->inode)) {
      continue;
    }
    const auto inside = InNetns::Enter(ns.get(), home->get());
    const auto has = inside ? HasReplyRoute() : base::Result<bool>(false);
    if (!inside || !has) {
      complete = false;
    } else if (*has) {
      visit(Leftover{.kind = Leftover::Kind::kNamespace,
                     .id = identity->inode,
                     .name = "rules, routes and sysctls of network namespace " +
                             std::to_string(identity->inode)});
    }
  }
}

Leftover ItemOf(std::uint32_t id, const Link& link) {
  return {.kind = Leftover::Kind::kLink,
          .id = id,
          .name = "link " + std::to_string(id) + " (" + link.program + ")"};
}

Leftover ItemOf(const Pin& pin) {
  return {.kind = Leftover::Kind::kPin, .id = 0, .name = "pin " + pin.path};
}

// Links and pins with their owners.
struct Survey {
  Links links;
  std::vector<Pin> pins;
  bool complete = true;
};

base::Result<Survey> Look(const Options& options) {
  auto links = AllLinks();
  if (!links) {
    return std::unexpected(links.error());
  }
  Survey survey{.links = std::move(*links), .pins = {}};
  survey.pins = FindPins(options, survey.links, survey.complete);
  survey.complete = MarkHeld(survey.links) && survey.complete;
  return survey;
}

void KeepFirst(base::Result<void>& first, base::Result<void> result) {
  if (first && !result) {
    first = std::move(result);
  }
}

// With its directory locked, so that no agent starts on it meanwhile.
base::Result<void> RemovePin(const Pin& pin) {
  const auto mounts = BpfMounts();
  std::optional<PinDirectory> lock;
  // The root of a file system is nobody's directory: it is not locked, nor removed with
  // its last pin.
  if (std::ranges::find(mounts, pin.directory) == mounts.end()) {
    auto locked = PinDirectory::Lock(pin.directory);
    if (!locked) {
      return std::unexpected(locked.error());
    }
    lock.emplace(std::move(*locked));
  }
  if (::unlink(pin.path.c_str()) != 0 && errno != ENOENT) {
    return base::SystemError("remove the pin " + pin.path);
  }
  return {};
}

// Ends a link that is kept by something which is not to be seen from here.
base::Result<void> Detach(std::uint32_t id) {
  const base::UniqueFd fd(::bpf_link_get_fd_by_id(id));
  if (fd.valid() && ::bpf_link_detach(fd.get()) != 0) {
    return base::SystemError("detach link " + std::to_string(id));
  }
  return {};
}

std::string Plural(std::size_t count, const std::string& one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

std::size_t Count(const std::vector<Leftover>& items, Leftover::Kind kind) {
  return static_cast<std::size_t>(std::ranges::count(items, kind, &Leftover::kind));
}

}  // namespace

base::Result<Leftovers> FindLeftovers(const Options& options) {
  const auto survey = Look(options);
  if (!survey) {
    return std::unexpected(survey.error());
  }
  Leftovers found{.items = {}, .complete = survey->complete};
  for (const auto& [id, link] : survey->links) {
    if (link.owned) {
      ++found.owned_links;
    } else {
      found.items.push_back(ItemOf(id, link));
    }
  }
  for (const Pin& pin : survey->pins) {
    if (!pin.owned) {
      found.items.push_back(ItemOf(pin));
    }
  }
  ForEachStrayNamespace(survey->links, found.complete,
                        [&](Leftover item) { found.items.push_back(std::move(item)); });
  return found;
}

base::Result<std::vector<Leftover>> CleanLeftovers(const Options& options,
                                                   const std::vector<Leftover>& items) {
  auto survey = Look(options);
  if (!survey) {
    return std::unexpected(survey.error());
  }
  if (!survey->complete) {
    return std::unexpected(
        base::Error(base::ErrorCode::kPermission,
                    "not every process can be looked at, so an owner could be overlooked")
            .WithRemedy("run it as root"));
  }
  base::Result<void> result;
  std::vector<Leftover> removed;
  const auto remove = [&](Leftover item, const auto& how) {
    if (std::ranges::find(items, item) == items.end()) {
      return;
    }
    if (auto done = how(); done) {
      removed.push_back(std::move(item));
    } else {
      KeepFirst(result, std::move(done));
    }
  };
  for (const Pin& pin : survey->pins) {
    if (!pin.owned) {
      remove(ItemOf(pin), [&] { return RemovePin(pin); });
    }
  }
  for (const auto& [id, link] : survey->links) {
    if (!link.owned) {
      // One that was pinned is gone with its pin.
      remove(ItemOf(id, link),
             [&] { return link.seen_pinned ? base::Result<void>() : Detach(id); });
    }
  }
  ForEachStrayNamespace(survey->links, survey->complete,
                        [&](Leftover item) { remove(std::move(item), RemoveAnyReplyRoute); });
  if (!result) {
    return std::unexpected(result.error());
  }
  return removed;
}

CheckResult CheckLeftovers(const Options& options) {
  constexpr std::size_t kNamed = 5;
  CheckResult result;
  result.code = "WK205";
  result.category = "agent";
  result.remedy = "run it as root";
  const auto found = FindLeftovers(options);
  if (!found) {
    result.fact = found.error().message();
    return result;
  }
  using Kind = Leftover::Kind;
  const auto& items = found->items;
  result.fact = Plural(Count(items, Kind::kLink), "link") + ", " +
                Plural(Count(items, Kind::kPin), "pin") + " and the routing of " +
                Plural(Count(items, Kind::kNamespace), "namespace") + " without owner";
  if (!items.empty()) {
    result.outcome = CheckOutcome::kWarn;
    result.remedy = "sudo weir check --clean-leftovers";
    for (std::size_t i = 0; i < std::min(items.size(), kNamed); ++i) {
      result.fact += (i == 0 ? ": " : ", ") + items[i].name;
    }
  } else if (found->complete) {
    result.outcome = CheckOutcome::kOk;
    result.fact += "; " + Plural(found->owned_links, "link") + " of running agents";
    result.remedy.clear();
  } else {
    result.fact += "; not every process could be looked at";
  }
  return result;
}

}  // namespace weir::datapath
