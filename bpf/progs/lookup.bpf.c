// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// New connections to an enrolled namespace (sk_lookup): to a worker's listener whatever
// their port, provided that an application listens there. Loaded once per namespace.
#include "bpf/lib/address.h"
#include "bpf/lib/maps.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u64 weir_netns_cookie = 0;
const volatile __u32 weir_worker_count = 1;

static __always_inline struct weir_listening* weir_find_listening(
    const struct weir_address* address, __u16 port) {
  struct weir_listening_key key = {
      .netns_cookie = weir_netns_cookie, .address = *address, .port = port};
  struct weir_listening* entry = bpf_map_lookup_elem(&weir_listening, &key);
  if (entry && entry->sockets) {
    return entry;
  }
  struct weir_address any = {};
  key.address = weir_is_v4(address) ? weir_v4(0) : any;
  entry = bpf_map_lookup_elem(&weir_listening, &key);
  return entry && entry->sockets ? entry : 0;
}

static __always_inline int weir_is_own_leg(const struct weir_tuple* opener) {
  return bpf_map_lookup_elem(&weir_legs, opener) != 0;
}

// Whose connection it is; empty: nobody's that weir looks after. A whole namespace is
// one workload's; in the host's, each listening socket says whose.
static __always_inline int weir_find_owner(const struct weir_tuple* opener,
                                           struct weir_workload* owner, int* listening) {
  struct weir_listening* entry = weir_find_listening(&opener->remote, opener->remote_port);
  *listening = entry != 0;
  __u64 cookie = weir_netns_cookie;
  struct weir_workload* whole = bpf_map_lookup_elem(&weir_netns, &cookie);
  if (whole) {
    *owner = *whole;
    return 1;
  }
  if (entry) {
    *owner = entry->owner;
  }
  return entry != 0;
}

static __always_inline int weir_no_agent(const struct weir_workload* owner) {
  if (owner->flags & WEIR_WORKLOAD_CLOSED) {
    weir_count(WEIR_LOOKUP_NO_AGENT_DROPPED);
    return SK_DROP;
  }
  weir_count(WEIR_LOOKUP_NO_AGENT_OPEN);
  return SK_PASS;
}

static __always_inline int weir_assign(struct bpf_sk_lookup* ctx, const struct weir_tuple* opener,
                                       const struct weir_workload* owner, int listening) {
  struct weir_listener_key key = {
      .local_id = owner->local_id,
      .worker = weir_hash(&opener->local, opener->local_port) % weir_worker_count,
      .kind = WEIR_LISTENER_INBOUND,
      .is_v6 = !weir_is_v4(&opener->remote),
  };
  struct bpf_sock* listener = bpf_map_lookup_elem(&weir_listeners, &key);
  if (!listener) {
    return weir_no_agent(owner);
  }
  if (!listening) {
    bpf_sk_release(listener);
    weir_count(WEIR_LOOKUP_NOT_LISTENING);
    return SK_PASS;
  }
  long failed = bpf_sk_assign(ctx, listener, 0);
  bpf_sk_release(listener);
  if (failed) {
    weir_count(WEIR_LOOKUP_ASSIGN_FAILED);
    return owner->flags & WEIR_WORKLOAD_CLOSED ? SK_DROP : SK_PASS;
  }
  weir_count(WEIR_LOOKUP_ASSIGNED);
  return SK_PASS;
}

SEC("sk_lookup")
int weir_lookup(struct bpf_sk_lookup* ctx) {
  if (WEIR_CTX_U32(ctx, protocol) != WEIR_IPPROTO_TCP) {
    return SK_PASS;
  }
  struct weir_tuple opener = {.netns_cookie = weir_netns_cookie,
                              .local_port = bpf_ntohs(WEIR_CTX_U16(ctx, remote_port)),
                              .remote_port = WEIR_CTX_U32(ctx, local_port)};
  if (WEIR_CTX_U32(ctx, family) == WEIR_AF_INET) {
    opener.local = weir_v4(WEIR_CTX_U32(ctx, remote_ip4));
    opener.remote = weir_v4(WEIR_CTX_U32(ctx, local_ip4));
  } else {
    opener.local = WEIR_CTX_ADDRESS(ctx, remote_ip6);
    opener.remote = WEIR_CTX_ADDRESS(ctx, local_ip6);
  }
  if (weir_is_loopback(&opener.remote)) {
    weir_count(WEIR_LOOKUP_LOOPBACK);
    return SK_PASS;
  }
  // To itself: not by the interface, which is not loopback for a namespace's own address.
  if (weir_same_address(&opener.local, &opener.remote)) {
    weir_count(WEIR_LOOKUP_SELF);
    return SK_PASS;
  }
  if (weir_is_own_leg(&opener)) {
    weir_count(WEIR_LOOKUP_OWN_LEG);
    return SK_PASS;
  }
  struct weir_workload owner = {};
  int listening = 0;
  if (!weir_find_owner(&opener, &owner, &listening)) {
    return SK_PASS;
  }
  return weir_assign(ctx, &opener, &owner, listening);
}
