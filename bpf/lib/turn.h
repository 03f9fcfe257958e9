/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/lib/causality_maps.h"

/* Whether a thread still is in the turn of its event loop in which it last read: seen from
 * the loop's own state in the kernel, so that no system call needs a tracepoint.
 *
 *   last socket read         the turn lasts
 *   in no epoll, or blocking until the next read
 *   level-triggered          while its item is on the ready list: the next epoll_wait drops it
 *   edge-triggered, closed   while the epoll's sequence and the thread's switches are unchanged
 */

#define WEIR_O_NONBLOCK 04000
#define WEIR_MSG_DONTWAIT 0x40
#define WEIR_EPOLLET (1U << 31)

/* Not every kernel has it. */
struct eventpoll___seq {
  seqcount_spinlock_t seq;
} __attribute__((preserve_access_index));

static __always_inline struct weir_thread* weir_this_thread(void) {
  return bpf_task_storage_get(&weir_threads, bpf_get_current_task_btf(), 0,
                              BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline __u32 weir_epoll_sequence(__u64 eventpoll) {
  struct eventpoll___seq* ep = (void*)eventpoll;
  return bpf_core_field_exists(ep->seq) ? BPF_CORE_READ(ep, seq.seqcount.sequence) : 0;
}

/* Notes that the thread has just read from `sk`, for `request`. */
static __always_inline void weir_begin_turn(struct weir_thread* thread, struct sock* sk, int flags,
                                            __u64 request) {
  thread->request = request;
  thread->eventpoll = 0;
  struct file* file = BPF_CORE_READ(sk, sk_socket, file);
  if (!file) {
    return;
  }
  // A thread that waits inside of the read serves this socket alone.
  if (!(BPF_CORE_READ(file, f_flags) & WEIR_O_NONBLOCK) && !(flags & WEIR_MSG_DONTWAIT)) {
    return;
  }
  struct hlist_head* items = BPF_CORE_READ(file, f_ep);
  struct hlist_node* link = items ? BPF_CORE_READ(items, first) : 0;
  if (!link) {
    return;
  }
  struct epitem* item = (void*)link - bpf_core_field_offset(struct epitem, fllink);
  thread->item = (__u64)item;
  thread->file = (__u64)file;
  thread->eventpoll = (__u64)BPF_CORE_READ(item, ep);
  thread->edge_triggered = (BPF_CORE_READ(item, event.events) & WEIR_EPOLLET) != 0;
  thread->switches = bpf_get_current_task_btf()->nvcsw;
  thread->sequence = weir_epoll_sequence(thread->eventpoll);
}

/* Whether the item is the one that was read from, and still in its epoll: the memory may be
 * another's by now, and what was taken out of an epoll is no more in its file's list. */
static __always_inline int weir_is_item_there(const struct weir_thread* thread) {
  struct epitem* item = (void*)thread->item;
  __u64 itself = 0;
  (void)bpf_probe_read_kernel(&itself, sizeof(itself), BPF_CORE_READ(item, fllink.pprev));
  return itself == thread->item + bpf_core_field_offset(struct epitem, fllink) &&
         (__u64)BPF_CORE_READ(item, ep) == thread->eventpoll &&
         (__u64)BPF_CORE_READ(item, ffd.file) == thread->file;
}

static __always_inline int weir_is_loop_still(const struct weir_thread* thread) {
  struct eventpoll___seq* ep = (void*)thread->eventpoll;
  return bpf_core_field_exists(ep->seq) && thread->switches == bpf_get_current_task_btf()->nvcsw &&
         thread->sequence == weir_epoll_sequence(thread->eventpoll);
}

static __always_inline int weir_turn_lasts(const struct weir_thread* thread) {
  if (!thread->eventpoll) {
    return 1;
  }
  if (thread->edge_triggered || !weir_is_item_there(thread)) {
    return weir_is_loop_still(thread);
  }
  struct epitem* item = (void*)thread->item;
  __u64 next = (__u64)BPF_CORE_READ(item, rdllink.next);
  return next != thread->item + bpf_core_field_offset(struct epitem, rdllink);
}

/* The request that the thread works on by the turn rule; 0: not known. */
static __always_inline __u64 weir_turn_request(const struct weir_thread* thread) {
  return thread->request && weir_turn_lasts(thread) ? thread->request : 0;
}
