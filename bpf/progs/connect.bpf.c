// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// connect() of enrolled workloads: keep the original destination with the socket and
// lead the connection to a worker's listener on loopback in the same namespace.
#include "bpf/lib/address.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/workload.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 weir_worker_count = 1;

enum weir_decision { WEIR_LEAVE, WEIR_REDIRECT, WEIR_REFUSE };

static __always_inline struct weir_workload* weir_workload_of_task(__u32 levels) {
  for (int level = 0; level < WEIR_MAX_CGROUP_LEVELS; ++level) {
    if (!(levels & (1U << level))) {
      continue;
    }
    __u64 id = bpf_get_current_ancestor_cgroup_id(level);
    if (!id) {
      break;
    }
    struct weir_workload* workload = bpf_map_lookup_elem(&weir_cgroups, &id);
    if (workload) {
      return workload;
    }
  }
  return 0;
}

// By namespace first: that is one lookup for everything that is not enrolled. By cgroup,
// the caller's counts and the one that the socket was made in.
static __always_inline struct weir_workload* weir_find_workload(struct bpf_sock_addr* ctx,
                                                                __u64 cookie) {
  struct weir_workload* workload = bpf_map_lookup_elem(&weir_netns, &cookie);
  if (workload) {
    return workload;
  }
  __u32 levels = weir_host_levels(cookie);
  if (!levels) {
    return 0;
  }
  workload = weir_workload_of_task(levels);
  return workload || !ctx->sk ? workload : weir_workload_of_socket_cgroup(ctx->sk, levels);
}

static __always_inline int weir_leave_alone(struct bpf_sock_addr* ctx, __u64 cookie,
                                            const struct weir_address* destination) {
  // connect() to the unspecified address is one to loopback.
  if (weir_is_loopback(destination) || weir_is_wildcard(destination)) {
    weir_count(WEIR_CONNECT_LOOPBACK);
    return 1;
  }
  // Its scope is not visible here, and no workload has such an address.
  if (weir_is_v6_link_local(destination)) {
    weir_count(WEIR_CONNECT_LINK_LOCAL);
    return 1;
  }
  if (!ctx->sk || ctx->sk->bound_dev_if) {
    weir_count(WEIR_CONNECT_DEVICE_BOUND);
    return 1;
  }
  struct weir_local_key key = {.netns_cookie = cookie, .address = *destination};
  if (bpf_map_lookup_elem(&weir_local_addresses, &key)) {
    weir_count(WEIR_CONNECT_SELF);
    return 1;
  }
  return 0;
}

// Port of the listener that destinations like this one are led to; 0 when no agent
// listens.
static __always_inline __u16 weir_listener_port(__u32 local_id,
                                                const struct weir_original* original) {
  struct weir_listener_key key = {
      .local_id = local_id,
      .worker = weir_hash(&original->address, original->port) % weir_worker_count,
      .kind = WEIR_LISTENER_OUTBOUND,
      .is_v6 = !weir_is_v4(&original->address),
  };
  struct bpf_sock* listener = bpf_map_lookup_elem(&weir_listeners, &key);
  if (!listener) {
    return 0;
  }
  __u16 port = listener->src_port;
  bpf_sk_release(listener);
  return port;
}

// A transparent leg must not take a tuple that a connection of the namespace already
// has: its SYN would reach that one, and hang.
static __always_inline enum weir_decision weir_check_own(struct bpf_sock_addr* ctx, __u32 flags,
                                                         const struct weir_address* destination,
                                                         __u16 port_be) {
  weir_count(WEIR_CONNECT_OWN);
  if (!(flags & WEIR_SOCK_TRANSPARENT) || !ctx->sk) {
    return WEIR_LEAVE;
  }
  struct bpf_sock_tuple tuple = {};
  __u32 size = sizeof(tuple.ipv4);
  if (weir_is_v4(destination)) {
    tuple.ipv4.saddr = ctx->sk->src_ip4;
    tuple.ipv4.sport = bpf_htons(ctx->sk->src_port);
    tuple.ipv4.daddr = destination->words_be[3];
    tuple.ipv4.dport = port_be;
  } else {
    tuple.ipv6.saddr[0] = ctx->sk->src_ip6[0];
    tuple.ipv6.saddr[1] = ctx->sk->src_ip6[1];
    tuple.ipv6.saddr[2] = ctx->sk->src_ip6[2];
    tuple.ipv6.saddr[3] = ctx->sk->src_ip6[3];
    tuple.ipv6.sport = bpf_htons(ctx->sk->src_port);
    __builtin_memcpy(tuple.ipv6.daddr, destination, sizeof(tuple.ipv6.daddr));
    tuple.ipv6.dport = port_be;
    size = sizeof(tuple.ipv6);
  }
  struct bpf_sock* taken = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
  if (!taken) {
    return WEIR_LEAVE;
  }
  __u32 state = taken->state;
  bpf_sk_release(taken);
  // A new SYN takes a tuple over from TIME_WAIT (RFC 6191); counting those as taken would
  // use up a client's ports at some hundred connections a second.
  if (state == BPF_TCP_LISTEN || state == BPF_TCP_TIME_WAIT) {
    return WEIR_LEAVE;
  }
  weir_count(WEIR_CONNECT_TUPLE_TAKEN);
  bpf_set_retval(-WEIR_EADDRINUSE);
  return WEIR_REFUSE;
}

static __always_inline enum weir_decision weir_no_agent(const struct weir_workload* workload) {
  if (!(workload->flags & WEIR_WORKLOAD_CLOSED)) {
    weir_count(WEIR_CONNECT_NO_AGENT_OPEN);
    return WEIR_LEAVE;
  }
  weir_count(WEIR_CONNECT_NO_AGENT_REFUSED);
  bpf_set_retval(-WEIR_ECONNREFUSED);
  return WEIR_REFUSE;
}

// Decides on a connection to `destination`; with WEIR_REDIRECT, *port is the listener's.
static __always_inline enum weir_decision weir_decide(struct bpf_sock_addr* ctx, __u16* port,
                                                      const struct weir_address* destination,
                                                      __u16 port_be) {
  __u64 cookie = bpf_get_netns_cookie(ctx);
  struct weir_workload* workload = weir_find_workload(ctx, cookie);
  if (!workload || !ctx->sk) {
    return WEIR_LEAVE;
  }
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, ctx->sk, 0, 0);
  if (known && (known->flags & WEIR_SOCK_OWN)) {
    return weir_check_own(ctx, known->flags, destination, port_be);
  }
  // A socket that is connected again must not keep an earlier destination.
  if (known) {
    known->flags &= ~WEIR_SOCK_REDIRECTED;
  }
  if (weir_leave_alone(ctx, cookie, destination)) {
    return WEIR_LEAVE;
  }
  struct weir_original original = {
      .address = *destination,
      .local_id = workload->local_id,
      .pid = bpf_get_current_pid_tgid() >> 32,
      .port = bpf_ntohs(port_be),
  };
  bpf_get_current_comm(original.comm, sizeof(original.comm));
  *port = weir_listener_port(workload->local_id, &original);
  if (!*port) {
    return weir_no_agent(workload);
  }
  if (!known) {
    known = bpf_sk_storage_get(&weir_sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  }
  if (!known) {
    weir_count(WEIR_CONNECT_NO_STORAGE);
    return weir_no_agent(workload);
  }
  known->original = original;
  known->flags |= WEIR_SOCK_REDIRECTED;
  weir_count(WEIR_CONNECT_REDIRECTED);
  return WEIR_REDIRECT;
}

SEC("cgroup/connect4")
int weir_connect4(struct bpf_sock_addr* ctx) {
  if (ctx->protocol != WEIR_IPPROTO_TCP) {
    return 1;
  }
  struct weir_address destination = weir_v4(ctx->user_ip4);
  __u16 port = 0;
  enum weir_decision decision = weir_decide(ctx, &port, &destination, ctx->user_port);
  if (decision == WEIR_REDIRECT) {
    ctx->user_ip4 = bpf_htonl(0x7f000001);
    ctx->user_port = bpf_htons(port);
  }
  return decision != WEIR_REFUSE;
}

SEC("cgroup/connect6")
int weir_connect6(struct bpf_sock_addr* ctx) {
  if (ctx->protocol != WEIR_IPPROTO_TCP) {
    return 1;
  }
  struct weir_address destination = WEIR_CTX_ADDRESS(ctx, user_ip6);
  __u16 port = 0;
  enum weir_decision decision = weir_decide(ctx, &port, &destination, ctx->user_port);
  if (decision == WEIR_REDIRECT) {
    // A mapped destination stays mapped: the socket may talk IPv4 only.
    int mapped = weir_is_v4(&destination);
    ctx->user_ip6[0] = 0;
    ctx->user_ip6[1] = 0;
    ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : 0;
    ctx->user_ip6[3] = mapped ? bpf_htonl(0x7f000001) : bpf_htonl(1);
    ctx->user_port = bpf_htons(port);
  }
  return decision != WEIR_REFUSE;
}
