#pragma once

#include <array>
#include <string>
#include <utility>

#include "agent/base/error.h"
#include "agent/datapath/programs.h"

struct bpf_object;

// What the files that load BPF objects share.
namespace weir::datapath {

// What libbpf answered (a negative number or an errno), with the end of its messages and,
// where that helps, the remedy.
std::unexpected<base::Error> LibbpfError(const std::string& what, int error);

// Skeleton owns one generated skeleton and closes it.
template <typename Generated, void (*kDestroy)(Generated*)>
class Skeleton {
 public:
  explicit Skeleton(Generated* object) : object_(object) {}
  Skeleton(const Skeleton&) = delete;
  Skeleton& operator=(const Skeleton&) = delete;
  ~Skeleton() { kDestroy(object_); }  // null is fine
  Generated* operator->() const { return object_; }
  [[nodiscard]] bool valid() const { return object_ != nullptr; }

 private:
  Generated* object_;
};

// The interception maps by the names that they have in every object.
inline constexpr std::array<std::pair<Map, const char*>, 13> kMapNames = {{
    {Map::kNetns, "weir_netns"},
    {Map::kCgroups, "weir_cgroups"},
    {Map::kHost, "weir_host"},
    {Map::kExpected, "weir_expected"},
    {Map::kArrivals, "weir_arrivals"},
    {Map::kPorts, "weir_ports"},
    {Map::kListeners, "weir_listeners"},
    {Map::kSockets, "weir_sockets"},
    {Map::kOriginals, "weir_originals"},
    {Map::kLegs, "weir_legs"},
    {Map::kListening, "weir_listening"},
    {Map::kLocalAddresses, "weir_local_addresses"},
    {Map::kCounters, "weir_counters"},
}};

// Gives `object`, before it is loaded, those maps of `programs` instead of its own.
base::Result<void> ShareMaps(const Programs& programs, bpf_object* object);

}  // namespace weir::datapath
