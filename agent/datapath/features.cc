#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/datapath/datapath_impl.h"
#include "agent/datapath/netlink.h"
#include "agent/datapath/parent_program.h"

namespace weir::datapath {
namespace {

struct HelperProbe {
  const char* name;
  const char* needed_by;
  bpf_prog_type program;
  bpf_func_id helper;
  const char* fallback;
};

// Each is loaded into the kernel in a small program of that type.
constexpr std::array kHelpers = {
    HelperProbe{"helper get_netns_cookie in connect hooks", "enrolment by namespace",
                BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_get_netns_cookie, ""},
    HelperProbe{"helper get_current_ancestor_cgroup_id in connect hooks", "enrolment by cgroup",
                BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_get_current_ancestor_cgroup_id, ""},
    HelperProbe{"helper set_retval in connect hooks", "closed workloads: ECONNREFUSED",
                BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, ""},
    HelperProbe{"helper skc_lookup_tcp in connect hooks", "transparent legs: taken tuples",
                BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_skc_lookup_tcp, ""},
    HelperProbe{"socket storage in connect hooks", "original destination, own sockets",
                BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_sk_storage_get, ""},
    HelperProbe{"socket storage in sockops", "original destination, own legs",
                BPF_PROG_TYPE_SOCK_OPS, BPF_FUNC_sk_storage_get, ""},
    HelperProbe{"helper get_netns_cookie in sockops", "keys of connections", BPF_PROG_TYPE_SOCK_OPS,
                BPF_FUNC_get_netns_cookie, ""},
    HelperProbe{"helper sk_assign in sk_lookup", "inbound interception", BPF_PROG_TYPE_SK_LOOKUP,
                BPF_FUNC_sk_assign, ""},
};

constexpr char kHeadersOnly[] = "parents come from forwarded headers only";

Feature Named(const char* name, const char* needed_by, const char* fallback = "") {
  Feature feature;
  feature.name = name;
  feature.needed_by = needed_by;
  feature.fallback = fallback;
  return feature;
}

Feature ProbeHelper(const HelperProbe& probe) {
  const int answer = ::libbpf_probe_bpf_helper(probe.program, probe.helper, nullptr);
  Feature feature = Named(probe.name, probe.needed_by, probe.fallback);
  feature.available = answer == 1;
  if (answer != 1) {
    feature.detail = answer == 0 ? "the verifier does not know it" : std::strerror(-answer);
  }
  return feature;
}

// BPF_MAP_LOOKUP_AND_DELETE_ELEM on a hash (since 5.14).
Feature ProbeTake() {
  Feature feature = Named("read-and-delete on hash maps", "an original destination is taken once");
  const base::UniqueFd map(::bpf_map_create(BPF_MAP_TYPE_HASH, "weir_probe", 4, 4, 1, nullptr));
  const std::uint32_t key = 1;
  std::uint32_t value = 2;
  feature.available = map.valid() && ::bpf_map_update_elem(map.get(), &key, &value, BPF_ANY) == 0 &&
                      ::bpf_map_lookup_and_delete_elem(map.get(), &key, &value) == 0;
  if (!feature.available) {
    feature.detail = std::strerror(errno);
  }
  return feature;
}

Feature ProbeTransparent() {
  Feature feature = Named("IP_TRANSPARENT", "the application sees its client's address");
  const base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  feature.available =
      fd.valid() && ::setsockopt(fd.get(), IPPROTO_IP, IP_TRANSPARENT, &on, sizeof(on)) == 0;
  if (!feature.available) {
    feature.detail = std::strerror(errno);
  }
  return feature;
}

Feature ProbeFwmarkAccept() {
  Feature feature =
      Named("net.ipv4.tcp_fwmark_accept", "the application sees its client's address");
  feature.available = ::access("/proc/sys/net/ipv4/tcp_fwmark_accept", W_OK) == 0;
  if (!feature.available) {
    feature.detail = std::strerror(errno);
  }
  return feature;
}

Feature ProbeSockDiag() {
  Feature feature = Named("sock_diag", "listening ports made outside of the hooks' cgroup",
                          "only listening sockets that the hooks see are intercepted");
  const auto answer = netlink::ListeningSockets();
  feature.available = answer.has_value();
  if (!answer) {
    feature.detail = answer.error().message();
  }
  return feature;
}

}  // namespace

std::vector<Feature> CausalityFeatures(const base::Result<void>& loaded,
                                       const base::Result<void>& runtime) {
  std::vector<Feature> features;
  for (const auto& tracepoint : ProbeTracepoints()) {
    features.push_back(Named("", "parents of outbound requests, inferred", kHeadersOnly));
    features.back().name = std::string("tp_btf/") + tracepoint.name;
    features.back().available = tracepoint.available;
    if (!tracepoint.available) {
      features.back().detail = "the kernel does not describe it";
    }
  }
  features.push_back(
      Named("the parent program", "parents of outbound requests, inferred", kHeadersOnly));
  features.back().available = loaded.has_value();
  if (!loaded) {
    features.back().detail = loaded.error().message();
  }
  features.push_back(Named("the runtime program", "runtimeHooks: go and node",
                           "parents of their requests are inferred as all others"));
  features.back().available = runtime.has_value();
  if (!runtime) {
    features.back().detail = runtime.error().message();
  }
  return features;
}

std::vector<Feature> ProbeFeatures(const Programs& programs) {
  std::vector<Feature> features;
  features.push_back(
      Named("connect4/6, getpeername4/6, sockops, sk_lookup, iter/tcp programs", "interception"));
  features.back().available = true;  // asked for after they were loaded
  features.push_back(Named("fentry/inet_csk_listen_stop", "the end of listening sockets",
                           "a tracepoint that runs for every socket (tp_btf)"));
  features.back().available = programs.has_fentry();
  features.push_back(Named("tp_btf/cgroup_mkdir", "units that start are refused until enrolled",
                           "a unit is enrolled up to a second after its start; until then its "
                           "connections pass weir by"));
  features.back().available = programs.sees_cgroups();
  for (const auto& probe : kHelpers) {
    features.push_back(ProbeHelper(probe));
  }
  features.push_back(ProbeTake());
  features.push_back(ProbeTransparent());
  features.push_back(ProbeFwmarkAccept());
  features.push_back(ProbeSockDiag());
  return features;
}

}  // namespace weir::datapath
