/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/lib/address.h"
#include "bpf/lib/maps.h"

/* An entry of an earlier owner (an enrolment that ended) begins anew. */
static __always_inline void weir_add_listening(const struct weir_listening_key* key,
                                               const struct weir_workload* owner) {
  struct weir_listening* entry = bpf_map_lookup_elem(&weir_listening, key);
  if (!entry) {
    struct weir_listening none = {.owner = *owner};
    // Fails as well when another CPU has just added it: the lookup decides.
    bpf_map_update_elem(&weir_listening, key, &none, BPF_NOEXIST);
    entry = bpf_map_lookup_elem(&weir_listening, key);
  }
  if (!entry) {
    weir_count(WEIR_SOCKOPS_LISTENING_FULL);
    return;
  }
  if (entry->owner.local_id != owner->local_id) {
    entry->sockets = 0;
  }
  entry->owner = *owner;
  __sync_fetch_and_add(&entry->sockets, 1);
}

static __always_inline void weir_drop_listening(const struct weir_listening_key* key,
                                                __u32 local_id) {
  struct weir_listening* entry = bpf_map_lookup_elem(&weir_listening, key);
  if (entry && entry->sockets > 0 && entry->owner.local_id == local_id) {
    __sync_fetch_and_add(&entry->sockets, -1);
  }
}

/* The IPv4 twin of an IPv6 wildcard that is not IPV6_V6ONLY. */
static __always_inline struct weir_listening_key weir_v4_twin(
    const struct weir_listening_key* key) {
  struct weir_listening_key twin = *key;
  twin.address = weir_v4(0);
  return twin;
}

/* Whether the socket was not counted for this owner yet. */
static __always_inline int weir_is_uncounted(const struct weir_sock* known,
                                             const struct weir_workload* owner) {
  return !(known->flags & WEIR_SOCK_COUNTED) || known->counted_for != owner->local_id;
}

/* Counts a listening socket once, under `key`. */
static __always_inline void weir_begin_listening(struct weir_sock* known,
                                                 const struct weir_listening_key* key, int also_v4,
                                                 const struct weir_workload* owner) {
  known->listening = *key;
  known->counted_for = owner->local_id;
  known->flags |= WEIR_SOCK_COUNTED;
  weir_add_listening(key, owner);
  if (also_v4) {
    struct weir_listening_key twin = weir_v4_twin(key);
    weir_add_listening(&twin, owner);
    known->flags |= WEIR_SOCK_COUNTED_V4;
  }
}

static __always_inline void weir_end_listening(struct weir_sock* known) {
  if (!(known->flags & WEIR_SOCK_COUNTED)) {
    return;
  }
  weir_drop_listening(&known->listening, known->counted_for);
  if (known->flags & WEIR_SOCK_COUNTED_V4) {
    struct weir_listening_key twin = weir_v4_twin(&known->listening);
    weir_drop_listening(&twin, known->counted_for);
  }
  known->flags &= ~(WEIR_SOCK_COUNTED | WEIR_SOCK_COUNTED_V4);
}
