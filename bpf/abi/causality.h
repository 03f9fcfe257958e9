/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/abi/interception.h"

/* What the agent and the program that finds a request's parent (bpf/progs/parent.bpf.c)
 * tell each other. None of it outlives the agent. */

/* A span, by its ids as they are on the wire. */
struct weir_span_ref {
  __u8 trace_id[16];
  __u8 span_id[8];
};
WEIR_ABI_SIZE(weir_span_ref, 24);

#define WEIR_TRACE_STATE_BYTES 64

/* What a child needs of its parent. */
struct weir_trace_context {
  struct weir_span_ref span;
  __u8 flags;       /* of traceparent */
  __u8 state_bytes; /* of `state`; 0: none, or it did not fit */
  __u8 padding[6];
  char state[WEIR_TRACE_STATE_BYTES]; /* tracestate */
};
WEIR_ABI_SIZE(weir_trace_context, 96);
WEIR_ABI_OFFSET(weir_trace_context, state, 32);

/* A request's id: the handle of its connection in the upper half, its number in the lower.
 * A handle: the index of a slot in the low bits, above it how often the slot was given
 * out, so that a socket never sees the slot's next connection. */
#define WEIR_SLOT_BITS 14
#define WEIR_SLOT_COUNT (1U << WEIR_SLOT_BITS)
#define WEIR_HANDLE_BITS 31 /* bit 63 of an id marks what is no delivered request */

/* weir_slot.flags */
#define WEIR_SLOT_MULTIPLEXED 1U /* not one request after the other: its process is left alone */
#define WEIR_SLOT_STREAMS 2U     /* HTTP/2: `ended` says when a request is over, not its answer */
#define WEIR_SLOT_BROKEN_OFF 4U  /* with STREAMS: by the client; it may still be worked on */

/* weir_slot.state */
#define WEIR_REQUEST_OPEN 1U
#define WEIR_REQUEST_CLOSED 2U
#define WEIR_REQUEST_ABORTED 3U /* its connection was reset under it */

/* Calls that a request made to one destination. */
struct weir_calls {
  __u64 destination; /* weir_destination_key.destination; 0: unused */
  __u32 count;
  __u32 padding;
};
WEIR_ABI_SIZE(weir_calls, 16);
#define WEIR_MAX_CALLED 8

/* One delivery connection and its request; an element of a mapped array. */
struct weir_slot {
  /* Written by the agent alone. */
  __u32 handle; /* 0: unused */
  __u32 number; /* of the request under way, from 1; 0: none yet */
  __u32 flags;
  __u32 ended; /* with WEIR_SLOT_STREAMS: the last number whose request is over */
  struct weir_trace_context context;
  /* Written by the program alone. */
  __u32 seen;  /* the number of the request that `state` and what follows are of */
  __u32 state; /* WEIR_REQUEST_* */
  __u64 alone; /* count of requests that its process had begun with it, if it was alone */
  struct weir_calls calls[WEIR_MAX_CALLED];
};
WEIR_ABI_SIZE(weir_slot, 256);
WEIR_ABI_OFFSET(weir_slot, context, 16);
WEIR_ABI_OFFSET(weir_slot, seen, 112);
WEIR_ABI_OFFSET(weir_slot, calls, 128);

/* weir_hint.source */
#define WEIR_PARENT_NONE 0U
#define WEIR_PARENT_TURN 1U
#define WEIR_PARENT_SOLE 2U
#define WEIR_PARENT_RUNTIME 3U

#define WEIR_MAX_CANDIDATES 4

/* What is known of the request that an outbound connection is about to carry, keyed by the
 * connection's weir_tuple as the application sees it. */
struct weir_hint {
  __u32 source;          /* WEIR_PARENT_* */
  __u32 candidate_count; /* with NONE: all open requests, if they are 2 to 4; else 0 */
  struct weir_trace_context parent;
  struct weir_span_ref candidates[WEIR_MAX_CANDIDATES];
};
WEIR_ABI_SIZE(weir_hint, 200);
WEIR_ABI_OFFSET(weir_hint, candidates, 104);

/* The agent's own process: its sockets are no application's. */
struct weir_agent_process {
  __u64 pid_namespace_device;
  __u64 pid_namespace_inode;
  __u32 pid; /* in that namespace; 0: nobody */
  __u32 padding;
};
WEIR_ABI_SIZE(weir_agent_process, 24);

/* What a hook inside a runtime says about one of its sockets, by a TCP_KEEPIDLE that no
 * socket could have (MAX_TCP_KEEPIDLE is 32767 s): the program takes it and answers with
 * WEIR_MARK_TAKEN; without the program the kernel refuses it with EINVAL. A token stands for
 * a request, among those that its thread has named. See share/weir/node-hook.cjs. */
#define WEIR_MARK 0x40000000U
#define WEIR_MARK_INBOUND 0x20000000U /* names the request that was read last from the socket */
#define WEIR_MARK_TOKEN 0x1fffffffU   /* else whose call comes next on it; 0: no request's */
#define WEIR_MARK_TAKEN 114           /* EALREADY */

/* Right answers in a row, and answers checked, before an inferred parent is given. */
#define WEIR_CALIBRATION_SAMPLES 64
