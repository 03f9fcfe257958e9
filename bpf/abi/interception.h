/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/abi/types.h"

/* Keys and values of the maps that the connect, getpeername, sockops, sk_lookup and
 * listener programs share with the agent. Changing any of them changes the version,
 * which is a part of the pins' names. */
#define WEIR_INTERCEPTION_VERSION 1

/* An address in 16 bytes, network order; IPv4 in its v4-mapped form, so that a mapped
 * socket and a plain one of the same connection have one key and the family needs no
 * field of its own. */
struct weir_address {
  __u32 words_be[4];
};
WEIR_ABI_SIZE(weir_address, 16);

/* weir_workload.flags */
#define WEIR_WORKLOAD_CLOSED 1U /* refused while no worker listens; else untouched */
#define WEIR_WORKLOAD_INFER 2U  /* parents of its outbound requests are inferred */
#define WEIR_WORKLOAD_GO 4U     /* with INFER: its Go programs are probed */
#define WEIR_WORKLOAD_NODE 8U   /* with INFER: its Node.js programs say what they serve */

/* Who is enrolled. local_id 0: a closed workload that no living agent has claimed. */
struct weir_workload {
  __u32 local_id;
  __u32 flags;
};
WEIR_ABI_SIZE(weir_workload, 8);

/* Enrolment by cgroup in the agent's own network namespace; one element. A zero
 * cgroup_levels means that nothing is. */
struct weir_host {
  __u64 netns_cookie;
  __u32 cgroup_levels; /* bit n: a cgroup at depth n below the root is enrolled */
  __u32 padding;
};
WEIR_ABI_SIZE(weir_host, 16);
#define WEIR_MAX_CGROUP_LEVELS 16

/* A cgroup that is a closed workload's from its birth. */
struct weir_cgroup_name {
  __u64 parent_id; /* 0: wherever it is made (a systemd unit) */
  char name[120];  /* of its directory, zeros behind it */
};
WEIR_ABI_SIZE(weir_cgroup_name, 128);

/* One of weir's listeners. */
struct weir_listener_key {
  __u32 local_id;
  __u16 worker;
  __u8 kind; /* WEIR_LISTENER_* */
  __u8 is_v6;
};
WEIR_ABI_SIZE(weir_listener_key, 8);
WEIR_ABI_OFFSET(weir_listener_key, kind, 6);
#define WEIR_LISTENER_OUTBOUND 0
#define WEIR_LISTENER_INBOUND 1

/* A connection as the side that opened it sees it. */
struct weir_tuple {
  __u64 netns_cookie; /* of the namespace that it was opened in */
  struct weir_address local;
  struct weir_address remote;
  __u16 local_port;
  __u16 remote_port;
  __u32 padding;
};
WEIR_ABI_SIZE(weir_tuple, 48);
WEIR_ABI_OFFSET(weir_tuple, local_port, 40);

/* Where a redirected connection wanted to go. */
struct weir_original {
  struct weir_address address;
  __u32 local_id;
  __u32 pid; /* thread group in the root pid namespace */
  __u16 port;
  __u16 padding;
  char comm[16];
  __u32 padding2;
};
WEIR_ABI_SIZE(weir_original, 48);
WEIR_ABI_OFFSET(weir_original, comm, 28);

/* A connection of the agent's own. */
struct weir_leg {
  __u16 kind; /* seam::LegKind */
  __u16 worker;
  __u32 request_handle; /* delivery: see bpf/abi/causality.h; 0: none */
};
WEIR_ABI_SIZE(weir_leg, 8);
#define WEIR_LEG_DELIVERY 2 /* seam::LegKind::kDelivery */

/* A port that an application listens on: exact address, or the family's wildcard. */
struct weir_listening_key {
  __u64 netns_cookie;
  struct weir_address address;
  __u16 port;
  __u16 padding[3];
};
WEIR_ABI_SIZE(weir_listening_key, 32);
WEIR_ABI_OFFSET(weir_listening_key, port, 24);

struct weir_listening {
  __u32 sockets; /* how many listen (SO_REUSEPORT); 0: none any more */
  __u32 padding;
  struct weir_workload owner;
};
WEIR_ABI_SIZE(weir_listening, 16);

/* An address of an enrolled namespace's own. */
struct weir_local_key {
  __u64 netns_cookie;
  struct weir_address address;
};
WEIR_ABI_SIZE(weir_local_key, 24);

/* A port of the host's that belongs to a unit, whoever made its listening socket. */
struct weir_port_key {
  __u64 netns_cookie;
  __u16 port;
  __u16 padding[3];
};
WEIR_ABI_SIZE(weir_port_key, 16);

/* weir_sock.flags */
#define WEIR_SOCK_OWN 1U         /* the agent's; set by the agent, never by a hook */
#define WEIR_SOCK_TRANSPARENT 2U /* with OWN: its source address is somebody else's */
#define WEIR_SOCK_REDIRECTED 4U  /* `original` is set */
#define WEIR_SOCK_COUNTED 8U     /* counted in weir_listening under `listening` */
#define WEIR_SOCK_COUNTED_V4 16U /* with COUNTED: also under the IPv4 wildcard */

/* What weir knows of one socket (socket storage). */
struct weir_sock {
  __u32 flags;
  struct weir_leg leg;
  __u32 counted_for; /* with COUNTED: local_id of the owner at that time */
  struct weir_original original;
  struct weir_listening_key listening;
};
WEIR_ABI_SIZE(weir_sock, 96);
WEIR_ABI_OFFSET(weir_sock, original, 16);
WEIR_ABI_OFFSET(weir_sock, listening, 64);

/* Counters, one element per reason in weir_counters (per CPU). */
enum weir_counter {
  WEIR_CONNECT_REDIRECTED,
  WEIR_CONNECT_OWN,
  WEIR_CONNECT_LOOPBACK,
  WEIR_CONNECT_SELF,
  WEIR_CONNECT_DEVICE_BOUND,
  WEIR_CONNECT_LINK_LOCAL,
  WEIR_CONNECT_NO_AGENT_OPEN,
  WEIR_CONNECT_NO_AGENT_REFUSED,
  WEIR_CONNECT_NO_STORAGE,
  WEIR_CONNECT_TUPLE_TAKEN,
  WEIR_SOCKOPS_ORIGINAL_FULL,
  WEIR_SOCKOPS_LEG_FULL,
  WEIR_SOCKOPS_LISTENING_FULL,
  WEIR_LOOKUP_ASSIGNED,
  WEIR_LOOKUP_OWN_LEG,
  WEIR_LOOKUP_LOOPBACK,
  WEIR_LOOKUP_SELF,
  WEIR_LOOKUP_NOT_LISTENING,
  WEIR_LOOKUP_NO_AGENT_OPEN,
  WEIR_LOOKUP_NO_AGENT_DROPPED,
  WEIR_LOOKUP_ASSIGN_FAILED,
  WEIR_PARENT_BY_RUNTIME,
  WEIR_PARENT_RUNTIME_NONE,
  WEIR_PARENT_BY_TURN,
  WEIR_PARENT_BY_SOLE,
  WEIR_PARENT_NO_REQUEST_OPEN,
  WEIR_PARENT_TAINTED,
  WEIR_PARENT_CALIBRATING,
  WEIR_PARENT_MULTIPLEXED,
  WEIR_PARENT_AMBIGUOUS,
  WEIR_PARENT_WITHDRAWN,
  WEIR_PARENT_NO_STORAGE,
  WEIR_PARENT_HINT_FULL,
  WEIR_RUNTIME_FULL,
  WEIR_ARRIVAL_FULL,
  WEIR_COUNTER_COUNT
};
