/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/lib/causality_maps.h"

/* Requests that processes are serving: a request is open from the first read of its bytes
 * to the first write of its answer. */

#define WEIR_FOREIGN (1ULL << 63)
/* How long a process may go on with a request that is not counted: its connection was reset,
 * or it is older than the enrolment. */
#define WEIR_UNCERTAIN_NS (30ULL * 1000 * 1000 * 1000)

/* The id of a request that did not come through the agent: it counts, and is no parent. */
static __always_inline __u64 weir_foreign_request(struct sock* sk) {
  return bpf_get_socket_cookie(sk) | WEIR_FOREIGN;
}

static __always_inline struct weir_slot* weir_slot_of(__u32 handle) {
  __u32 index = handle & (WEIR_SLOT_COUNT - 1);
  struct weir_slot* slot = handle ? bpf_map_lookup_elem(&weir_slots, &index) : 0;
  return slot && slot->handle == handle ? slot : 0;
}

/* The slot of a request; null: another one has it, or it is foreign. */
static __always_inline struct weir_slot* weir_slot_of_request(__u64 request) {
  struct weir_slot* slot = request & WEIR_FOREIGN ? 0 : weir_slot_of(request >> 32);
  return slot && slot->seen == (__u32)request ? slot : 0;
}

/* Whether the request that `slot` was last seen with is open. */
static __always_inline int weir_is_open(const struct weir_slot* slot) {
  return slot->state == WEIR_REQUEST_OPEN &&
         !((slot->flags & WEIR_SLOT_STREAMS) && slot->ended == slot->seen);
}

static __always_inline int weir_is_request_open(__u64 request) {
  struct weir_slot* slot = weir_slot_of_request(request);
  return slot && weir_is_open(slot);
}

static __always_inline struct weir_process_key weir_this_process(void) {
  struct task_struct* leader = bpf_get_current_task_btf()->group_leader;
  struct weir_process_key key = {.pid = leader->pid, .start = (__u32)leader->start_boottime};
  return key;
}

static __always_inline struct weir_process* weir_process_of(const struct weir_process_key* key) {
  struct weir_process* process = bpf_map_lookup_elem(&weir_processes, key);
  if (process) {
    return process;
  }
  struct weir_process fresh = {.born = bpf_ktime_get_boot_ns()};
  if (bpf_get_current_task_btf()->group_leader->start_boottime <= weir_enrolled_ns) {
    fresh.uncertain_until_ns = fresh.born + WEIR_UNCERTAIN_NS;
  }
  // Fails as well when another CPU has just added it: the lookup decides.
  bpf_map_update_elem(&weir_processes, key, &fresh, BPF_NOEXIST);
  return bpf_map_lookup_elem(&weir_processes, key);
}

static __always_inline int weir_is_uncertain(const struct weir_process* process) {
  return process->uncertain_until_ns && bpf_ktime_get_boot_ns() < process->uncertain_until_ns;
}

/* What a process has open at this moment. */
struct weir_open {
  __s64 count;
  __u64 ids; /* XOR of them */
  int uncertain;
};

/* A stream's end shows in its slot; it is counted until the application reads again. Those
 * that do not fit among the candidates count until then. */
static __always_inline struct weir_open weir_open_of(const struct weir_process* process) {
  struct weir_open open = {.count = process->open_count,
                           .ids = process->open_ids,
                           .uncertain = weir_is_uncertain(process)};
  for (int i = 0; i < WEIR_MAX_CANDIDATES; ++i) {
    __u64 request = process->candidates[i];
    struct weir_slot* slot = request ? weir_slot_of_request(request) : 0;
    if (!slot || !(slot->flags & WEIR_SLOT_STREAMS)) {
      continue;
    }
    if (slot->ended == (__u32)request) {
      open.count -= 1;
      open.ids ^= request;
    } else if (slot->flags & WEIR_SLOT_BROKEN_OFF) {
      open.uncertain = 1;
    }
  }
  return open;
}

/* A request of the current process may not be counted. */
static __always_inline void weir_doubt_process(void) {
  struct weir_process_key key = weir_this_process();
  struct weir_process* process = weir_process_of(&key);
  if (process) {
    process->uncertain_until_ns = bpf_ktime_get_boot_ns() + WEIR_UNCERTAIN_NS;
  }
}

static __always_inline void weir_add_candidate(struct weir_process* process, __u64 request) {
  for (int i = 0; i < WEIR_MAX_CANDIDATES; ++i) {
    if (!process->candidates[i] &&
        __sync_val_compare_and_swap(&process->candidates[i], 0, request) == 0) {
      return;
    }
  }
}

static __always_inline void weir_drop_candidate(struct weir_process* process, __u64 request) {
  for (int i = 0; i < WEIR_MAX_CANDIDATES; ++i) {
    if (process->candidates[i] == request) {
      __sync_val_compare_and_swap(&process->candidates[i], request, 0);
      return;
    }
  }
}

/* `slot` is null for a foreign request. */
static __always_inline void weir_open_request(struct weir_parent_socket* socket, __u64 request,
                                              struct weir_slot* slot,
                                              const struct weir_process_key* key,
                                              struct weir_process* process) {
  int again = socket->request == request;
  socket->request = request;
  socket->process = *key;
  socket->born = process->born;
  socket->flags |= WEIR_SOCKET_OPEN;
  __u64 begun = __sync_fetch_and_add(&process->begun, 1) + 1;
  __sync_fetch_and_xor(&process->open_ids, request);
  __s64 others = __sync_fetch_and_add(&process->open_count, 1);
  weir_add_candidate(process, request);
  if (!slot) {
    return;
  }
  slot->alone = others == 0 ? begun : 0;
  slot->seen = (__u32)request;
  slot->state = WEIR_REQUEST_OPEN;
  if (!again) {
    __builtin_memset(slot->calls, 0, sizeof(slot->calls));
  }
}

/* What a request that nothing disturbed did tells what is usual. */
static __always_inline void weir_learn_calls(const struct weir_slot* slot,
                                             const struct weir_process_key* key) {
  struct weir_destination_key at = {.process = *key};
  for (int i = 0; i < WEIR_MAX_CALLED; ++i) {
    at.destination = slot->calls[i].destination;
    if (!at.destination) {
      break;
    }
    struct weir_destination* known = bpf_map_lookup_elem(&weir_destinations, &at);
    if (known && known->max_calls < slot->calls[i].count) {
      known->max_calls = slot->calls[i].count;
    }
  }
}

/* `aborted`: by the peer, so that the process may not know yet. */
static __always_inline void weir_close_request(struct weir_parent_socket* socket, int aborted) {
  if (!(socket->flags & WEIR_SOCKET_OPEN)) {
    return;
  }
  socket->flags &= ~WEIR_SOCKET_OPEN;
  struct weir_process* process = bpf_map_lookup_elem(&weir_processes, &socket->process);
  if (process && process->born == socket->born) {
    __sync_fetch_and_add(&process->open_count, -1);
    __sync_fetch_and_xor(&process->open_ids, socket->request);
    weir_drop_candidate(process, socket->request);
    if (aborted) {
      process->uncertain_until_ns = bpf_ktime_get_boot_ns() + WEIR_UNCERTAIN_NS;
    }
  } else {
    process = 0;
  }
  struct weir_slot* slot = weir_slot_of_request(socket->request);
  if (!slot) {
    return;
  }
  slot->state = aborted ? WEIR_REQUEST_ABORTED : WEIR_REQUEST_CLOSED;
  if (!aborted && process && slot->alone && slot->alone == process->begun) {
    weir_learn_calls(slot, &socket->process);
  }
}

/* Counts a call of the request to a destination. Whether it is one more than `limit`, or
 * than can be counted. */
static __always_inline int weir_count_call(struct weir_slot* slot, __u64 destination, __u32 limit) {
  for (int i = 0; i < WEIR_MAX_CALLED; ++i) {
    struct weir_calls* calls = &slot->calls[i];
    if (!calls->destination) {
      calls->destination = destination;
    }
    if (calls->destination == destination) {
      return __sync_fetch_and_add(&calls->count, 1) + 1 > limit;
    }
  }
  return 1;
}
