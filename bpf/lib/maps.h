/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/abi/interception.h"
#include "bpf/lib/kernel.h"

/* Every map of the interception programs. Each program declares them all; the agent
 * makes them once, with the first object, and hands them to the others. */

/* Enrolled network namespaces by cookie. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __type(key, __u64);
  __type(value, struct weir_workload);
} weir_netns SEC(".maps");

/* Enrolled cgroups by id. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __type(key, __u64);
  __type(value, struct weir_workload);
} weir_cgroups SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weir_host);
} weir_host SEC(".maps");

/* Cgroups that are closed as soon as they are made. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_cgroup_name);
  __type(value, __u8);
} weir_expected SEC(".maps");

/* Depths at which that happened, like weir_host.cgroup_levels; only the hook writes it. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} weir_arrivals SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_port_key);
  __type(value, struct weir_workload);
} weir_ports SEC(".maps");

/* weir's listeners; one that is closed, by the agent or by its death, is gone at once. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 65536);
  __type(key, struct weir_listener_key);
  __type(value, __u64);
} weir_listeners SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct weir_sock);
} weir_sockets SEC(".maps");

/* Redirected connections that the agent has not accepted yet. A plain hash: an LRU
 * would evict live ones. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 262144);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_tuple);
  __type(value, struct weir_original);
} weir_originals SEC(".maps");

/* The agent's own connections, until they close. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1048576);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_tuple);
  __type(value, struct weir_leg);
} weir_legs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 131072);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_listening_key);
  __type(value, struct weir_listening);
} weir_listening SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 65536);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weir_local_key);
  __type(value, __u8);
} weir_local_addresses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, WEIR_COUNTER_COUNT);
  __type(key, __u32);
  __type(value, __u64);
} weir_counters SEC(".maps");

static __always_inline void weir_count(enum weir_counter reason) {
  __u32 index = reason;
  __u64* value = bpf_map_lookup_elem(&weir_counters, &index);
  if (value) {
    ++*value;
  }
}
