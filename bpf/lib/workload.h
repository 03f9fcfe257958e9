/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/lib/maps.h"

/* The enrolled cgroup among `cgroup` and those above it, looking at the depths in the
 * bits of `levels`. */
static __always_inline struct weir_workload* weir_workload_of_cgroup(struct cgroup* cgroup,
                                                                     __u32 levels) {
  int depth = BPF_CORE_READ(cgroup, level);
  for (int level = 0; level < WEIR_MAX_CGROUP_LEVELS; ++level) {
    if (level > depth) {
      break;
    }
    if (!(levels & (1U << level))) {
      continue;
    }
    struct cgroup* ancestor = 0;
    bpf_core_read(&ancestor, sizeof(ancestor), &cgroup->ancestors[level]);
    __u64 id = BPF_CORE_READ(ancestor, kn, id);
    struct weir_workload* workload = bpf_map_lookup_elem(&weir_cgroups, &id);
    if (workload) {
      return workload;
    }
  }
  return 0;
}

/* The same for the cgroup that a socket was made in. */
static __always_inline struct weir_workload* weir_workload_of_socket_cgroup(struct bpf_sock* sk,
                                                                            __u32 levels) {
  struct tcp_sock* tcp = bpf_skc_to_tcp_sock(sk);
  return tcp ? weir_workload_of_cgroup(BPF_CORE_READ((struct sock*)tcp, sk_cgrp_data.cgroup),
                                       levels)
             : 0;
}

/* Whether the namespace is the one in which workloads are enrolled by cgroup; the depths
 * to look at, or 0. */
static __always_inline __u32 weir_host_levels(__u64 netns_cookie) {
  __u32 zero = 0;
  struct weir_host* host = bpf_map_lookup_elem(&weir_host, &zero);
  if (!host || host->netns_cookie != netns_cookie) {
    return 0;
  }
  __u32* arrivals = bpf_map_lookup_elem(&weir_arrivals, &zero);
  return host->cgroup_levels | (arrivals ? *arrivals : 0);
}
