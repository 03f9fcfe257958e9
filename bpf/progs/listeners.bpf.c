// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Walks the TCP sockets of a namespace (iter/tcp) and counts the listening ones that
// are older than the hooks, or that began outside of their cgroup.
#include "bpf/lib/address.h"
#include "bpf/lib/listening.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/workload.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline struct weir_workload* weir_owner_of(struct sock* sk, __u64 cookie,
                                                           __u16 port) {
  struct weir_workload* owner = bpf_map_lookup_elem(&weir_netns, &cookie);
  if (owner) {
    return owner;
  }
  __u32 levels = weir_host_levels(cookie);
  if (!levels) {
    return 0;
  }
  struct weir_port_key key = {.netns_cookie = cookie, .port = port};
  owner = bpf_map_lookup_elem(&weir_ports, &key);
  return owner ? owner : weir_workload_of_cgroup(BPF_CORE_READ(sk, sk_cgrp_data.cgroup), levels);
}

SEC("iter/tcp")
int weir_count_listeners(struct bpf_iter__tcp* ctx) {
  struct sock_common* common = ctx->sk_common;
  if (!common || common->skc_state != BPF_TCP_LISTEN || common->skc_bound_dev_if) {
    return 0;
  }
  __u64 cookie = BPF_CORE_READ(common, skc_net.net, net_cookie);
  __u16 port = common->skc_num;
  struct weir_workload* owner = weir_owner_of((struct sock*)common, cookie, port);
  if (!owner) {
    return 0;
  }
  struct weir_listening_key key = {.netns_cookie = cookie, .port = port};
  if (common->skc_family == WEIR_AF_INET) {
    key.address = weir_v4(common->skc_rcv_saddr);
  } else {
    bpf_core_read(&key.address, sizeof(key.address), &common->skc_v6_rcv_saddr);
  }
  if (weir_is_loopback(&key.address)) {
    return 0;
  }
  struct weir_sock* known =
      bpf_sk_storage_get(&weir_sockets, common, 0, BPF_SK_STORAGE_GET_F_CREATE);
  // Also one whose entry was lost.
  struct weir_listening* entry = bpf_map_lookup_elem(&weir_listening, &key);
  if (!known || (!weir_is_uncounted(known, owner) && entry && entry->sockets)) {
    return 0;
  }
  int also_v4 = common->skc_family == WEIR_AF_INET6 && weir_is_wildcard(&key.address) &&
                !BPF_CORE_READ_BITFIELD(common, skc_ipv6only);
  weir_begin_listening(known, &key, also_v4, owner);
  return 0;
}
