/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/abi/causality.h"
#include "bpf/lib/maps.h"

/* The state from which a request's parent is found. Where a map is an LRU, losing an entry
 * means that what it knew is learnt again, which takes WEIR_CALIBRATION_SAMPLES. */

/* When a workload was last enrolled (boot clock; the agent's): a process that is older may be
 * serving requests that nobody has seen. */
volatile __u64 weir_enrolled_ns;

/* Shared with the agent by mmap. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, WEIR_SLOT_COUNT);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct weir_slot);
} weir_slots SEC(".maps");

/* Not taken yet; deleted with the connection. Made beforehand: written on one CPU and taken on
 * another, memory that is asked for each time would wander. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 32768);
  __type(key, struct weir_tuple);
  __type(value, struct weir_hint);
} weir_hints SEC(".maps");

struct weir_process_key {
  __u32 pid;   /* thread group in the root pid namespace */
  __u32 start; /* low bits of its start time: pids are used again */
};

struct weir_process {
  __u64 born; /* which life of this entry; sockets of an earlier one do not count */
  __s64 open_count;
  __u64 open_ids;           /* XOR of the open requests' ids */
  __u64 begun;              /* requests ever */
  __s64 multiplexed;        /* open connections whose requests cannot be told apart */
  __u64 uncertain_until_ns; /* boot clock; it may be working on a request that is not counted */
  __u32 turn_off;           /* requests move between its threads */
  __u32 padding;
  __u64 candidates[WEIR_MAX_CANDIDATES]; /* open requests, as far as they fit */
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct weir_process_key);
  __type(value, struct weir_process);
} weir_processes SEC(".maps");

struct weir_destination_key {
  struct weir_process_key process;
  __u64 destination; /* hash of address and port, never 0 */
};

struct weir_destination {
  __u32 streak;       /* right answers of the turn rule in a row */
  __u32 sole_samples; /* calls made while one request was open */
  __u32 max_calls;    /* most calls of one request that was alone all its life */
  __u8 trusted;
  __u8 tainted; /* was called while no request was open */
  __u8 padding[2];
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 32768);
  __type(key, struct weir_destination_key);
  __type(value, struct weir_destination);
} weir_destinations SEC(".maps");

/* Which thread reads requests from the sockets of an epoll. */
struct weir_epoll_key {
  __u64 eventpoll;
  struct weir_process_key process;
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct weir_epoll_key);
  __type(value, __u32);
} weir_epolls SEC(".maps");

/* What a thread works on, as far as its last read tells. */
struct weir_thread {
  __u64 request;   /* 0: none */
  __u64 own;       /* the last request that it read from a socket outside of epoll */
  __u64 eventpoll; /* 0: the last socket was in none */
  __u64 item;      /* the socket's entry in it */
  __u64 file;      /* the socket's */
  __u64 switches;  /* voluntary ones of the thread, then */
  __u32 sequence;  /* the epoll's, then */
  __u32 edge_triggered;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct weir_thread);
} weir_threads SEC(".maps");

/* weir_parent_socket.kind */
#define WEIR_KIND_ACCEPTED 0 /* not looked at more closely yet */
#define WEIR_KIND_IGNORED 1
#define WEIR_KIND_INBOUND 2
#define WEIR_KIND_OUTBOUND 3

/* weir_parent_socket.direction: of the last bytes */
#define WEIR_READ 1
#define WEIR_WRITTEN 2

/* weir_parent_socket.flags */
#define WEIR_SOCKET_OPEN 1         /* inbound: its request counts in its process */
#define WEIR_SOCKET_MULTIPLEXED 2  /* inbound: counts in its process's `multiplexed` */
#define WEIR_SOCKET_SHARED 4       /* outbound: carried several requests' calls at once */
#define WEIR_SOCKET_CONNECTED 8    /* outbound: `at_connect` is set, for the first write */
#define WEIR_SOCKET_HINTED 16      /* outbound: may have an entry in weir_hints */
#define WEIR_SOCKET_UNTRACKED 32   /* inbound: the agent had no slot for it */
#define WEIR_SOCKET_GO 64          /* its workload wants Go programs probed */
#define WEIR_SOCKET_NODE 128       /* its workload's Node.js programs say what they serve */
#define WEIR_SOCKET_MARKED 256     /* outbound: `marked` is set, for the next call */
#define WEIR_SOCKET_KEPT_ALIVE 512 /* had SO_KEEPALIVE when that was last set */

struct weir_parent_socket {
  __u64 request;    /* inbound: its last; outbound: whose call it carries, 0: not known */
  __u64 at_connect; /* outbound */
  __u64 turn;       /* outbound: of the thread when it began the call, believed or not */
  __u64 born;       /* of the process that `request` counts in */
  __u64 marked;     /* outbound: the request that the next call is for, by a mark; 0: none */
  __u64 connection; /* outbound: address of Go's net/http.persistConn; 0: not known */
  struct weir_process_key process;
  __u32 handle; /* inbound: 0 if it is no delivery connection */
  __u8 kind;
  __u8 direction;
  __u16 flags;
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct weir_parent_socket);
} weir_parent_sockets SEC(".maps");

/* An object of a Go program by its address: a goroutine or a connection. The collector does
 * not move either, but both are used again. */
struct weir_go_object {
  __u64 address;
  struct weir_process_key process;
};

/* The request that a goroutine read last. */
struct weir_goroutine {
  __u64 request;
  __u32 shared; /* it read that one while its former one was open */
  __u32 padding;
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct weir_go_object);
  __type(value, struct weir_goroutine);
} weir_goroutines SEC(".maps");

/* The request that a connection of net/http's client carries now; 0: nobody's that is known. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct weir_go_object);
  __type(value, __u64);
} weir_go_calls SEC(".maps");

/* The connection that a goroutine will write to; taken with its first bytes. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct weir_go_object);
  __type(value, __u64);
} weir_go_writers SEC(".maps");

/* Processes of workloads with WEIR_WORKLOAD_GO that the agent was told of. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct weir_process_key);
  __type(value, __u8);
} weir_go_processes SEC(".maps");

/* Requests by the tokens that threads gave them. */
struct weir_token {
  __u32 thread;
  __u32 token;
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct weir_token);
  __type(value, __u64);
} weir_tokens SEC(".maps");
