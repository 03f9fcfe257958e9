// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// What only the kernel sees of sockets: the tuple of a connection before its SYN leaves,
// its end, and the start of a listening socket.
#include "bpf/lib/address.h"
#include "bpf/lib/listening.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/workload.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline struct weir_address weir_ops_local(struct bpf_sock_ops* ops, int is_v4) {
  if (is_v4) {
    return weir_v4(WEIR_CTX_U32(ops, local_ip4));
  }
  return WEIR_CTX_ADDRESS(ops, local_ip6);
}

static __always_inline struct weir_tuple weir_tuple_of(struct bpf_sock_ops* ops) {
  struct weir_tuple tuple = {.netns_cookie = bpf_get_netns_cookie(ops)};
  if (WEIR_CTX_U32(ops, family) == WEIR_AF_INET6) {
    tuple.remote = WEIR_CTX_ADDRESS(ops, remote_ip6);
  } else {
    tuple.remote = weir_v4(WEIR_CTX_U32(ops, remote_ip4));
  }
  // A mapped connection is IPv4: its source is not in local_ip6 yet.
  tuple.local = weir_ops_local(ops, weir_is_v4(&tuple.remote));
  tuple.local_port = WEIR_CTX_U32(ops, local_port);
  tuple.remote_port = bpf_ntohl(WEIR_CTX_U32(ops, remote_port));
  return tuple;
}

static __always_inline void weir_watch_close(struct bpf_sock_ops* ops) {
  bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void weir_on_connect(struct bpf_sock_ops* ops, struct bpf_sock* sk) {
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, 0);
  if (!known || !(known->flags & (WEIR_SOCK_OWN | WEIR_SOCK_REDIRECTED))) {
    return;
  }
  struct weir_tuple tuple = weir_tuple_of(ops);
  if (known->flags & WEIR_SOCK_OWN) {
    if (bpf_map_update_elem(&weir_legs, &tuple, &known->leg, BPF_ANY)) {
      weir_count(WEIR_SOCKOPS_LEG_FULL);
    }
  } else if (bpf_map_update_elem(&weir_originals, &tuple, &known->original, BPF_ANY)) {
    weir_count(WEIR_SOCKOPS_ORIGINAL_FULL);
  }
  weir_watch_close(ops);
}

static __always_inline struct weir_workload* weir_listening_owner(struct bpf_sock* sk, __u64 cookie,
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
  return owner ? owner : weir_workload_of_socket_cgroup(sk, levels);
}

// By this callback, unlike at the change of state, a listening socket that was never
// bound has its port. Loopback is never looked up, so what listens there alone (weir's
// own listeners too) is not counted.
static __always_inline void weir_on_listen(struct bpf_sock_ops* ops, struct bpf_sock* sk) {
  __u64 cookie = bpf_get_netns_cookie(ops);
  __u16 port = WEIR_CTX_U32(ops, local_port);
  struct weir_workload* owner = weir_listening_owner(sk, cookie, port);
  if (!owner || sk->bound_dev_if) {
    return;
  }
  __u32 family = WEIR_CTX_U32(ops, family);
  struct weir_listening_key key = {
      .netns_cookie = cookie, .address = weir_ops_local(ops, family == WEIR_AF_INET), .port = port};
  if (weir_is_loopback(&key.address)) {
    return;
  }
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!known) {
    weir_count(WEIR_SOCKOPS_LISTENING_FULL);
    return;
  }
  // listen() on a socket that listens already only changes its backlog.
  if (!weir_is_uncounted(known, owner)) {
    return;
  }
  int also_v4 = 0;
  if (family == WEIR_AF_INET6 && weir_is_wildcard(&key.address)) {
    struct tcp_sock* tcp = bpf_skc_to_tcp_sock(sk);
    also_v4 = tcp && !BPF_CORE_READ_BITFIELD_PROBED((struct sock_common*)tcp, skc_ipv6only);
  }
  weir_begin_listening(known, &key, also_v4, owner);
}

static __always_inline void weir_on_close(struct bpf_sock_ops* ops, struct bpf_sock* sk) {
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, 0);
  if (!known || !(known->flags & (WEIR_SOCK_OWN | WEIR_SOCK_REDIRECTED))) {
    return;
  }
  struct weir_tuple tuple = weir_tuple_of(ops);
  if (known->flags & WEIR_SOCK_OWN) {
    bpf_map_delete_elem(&weir_legs, &tuple);
  } else {
    // Gone already if the agent took it.
    bpf_map_delete_elem(&weir_originals, &tuple);
  }
}

SEC("sockops")
int weir_sockops(struct bpf_sock_ops* ops) {
  __u32 op = ops->op;
  struct bpf_sock* sk;
  switch (op) {
    case BPF_SOCK_OPS_TCP_CONNECT_CB:
      sk = ops->sk;
      if (sk) {
        weir_on_connect(ops, sk);
      }
      break;
    case BPF_SOCK_OPS_TCP_LISTEN_CB:
      sk = ops->sk;
      if (sk) {
        weir_on_listen(ops, sk);
      }
      break;
    case BPF_SOCK_OPS_STATE_CB:
      sk = ops->sk;
      if (sk && ops->args[1] == BPF_TCP_CLOSE) {
        weir_on_close(ops, sk);
      }
      break;
    default:
      break;
  }
  return 1;
}
