/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/lib/requests.h"

/* Go programs seen from the kernel. A goroutine is known by the address of its runtime.g. */

/* The goroutine that made the system call under way; 0: the process is no Go program, or not
 * of a machine or build whose layout is known. x86_64: the runtime keeps g in the word below
 * the thread pointer (runtime.settls), and the bounds of its stack are g's first two words
 * (runtime.g.stack); only of a goroutine does the stack pointer lie between them. */
static __always_inline __u64 weir_goroutine(void) {
#ifdef __TARGET_ARCH_x86
  struct task_struct* task = bpf_get_current_task_btf();
  __u64 thread_pointer = task->thread.fsbase;
  __u64 g = 0;
  __u64 stack[2] = {};
  if (!thread_pointer || bpf_probe_read_user(&g, sizeof(g), (void*)(thread_pointer - sizeof(g))) ||
      !g || bpf_probe_read_user(stack, sizeof(stack), (void*)g)) {
    return 0;
  }
  struct pt_regs* registers = (struct pt_regs*)bpf_task_pt_regs(task);
  __u64 pointer = PT_REGS_SP_CORE(registers);
  return stack[0] && stack[0] < pointer && pointer <= stack[1] ? g : 0;
#else
  return 0;
#endif
}

/* Notes that the goroutine has just read `bytes` of `request`. One byte says nothing: between
 * two requests net/http has another goroutine read one, which ends with it. */
static __always_inline void weir_note_goroutine(__u64 request, const struct weir_process_key* key,
                                                int bytes) {
  if (bytes <= 1) {
    return;
  }
  struct weir_go_object at = {.address = weir_goroutine(), .process = *key};
  if (!at.address) {
    return;
  }
  struct weir_goroutine now = {.request = request};
  struct weir_goroutine* known = bpf_map_lookup_elem(&weir_goroutines, &at);
  if (known && known->request == request) {
    return;
  }
  // Who serves several at once is no handler that runs from its request to its answer.
  now.shared = known && weir_is_request_open(known->request);
  if (bpf_map_update_elem(&weir_goroutines, &at, &now, BPF_ANY)) {
    weir_count(WEIR_RUNTIME_FULL);
  }
}

/* The request that the goroutine at `at` serves; 0: none that is known. An answered one does
 * not count: the goroutine may be over, and its address another one's. */
static __always_inline __u64 weir_request_of_goroutine(const struct weir_go_object* at) {
  struct weir_goroutine* known = bpf_map_lookup_elem(&weir_goroutines, at);
  return known && !known->shared && weir_is_request_open(known->request) ? known->request : 0;
}

/* Whose call begins on the outbound `socket`; 0: not known. net/http's client hands requests
 * to a goroutine of the connection, which writes nothing else; other clients (of databases)
 * write in the caller's. */
static __always_inline __u64 weir_go_call(struct weir_parent_socket* socket,
                                          const struct weir_process_key* key) {
  struct weir_go_object at = {.address = socket->connection, .process = *key};
  if (!at.address) {
    at.address = weir_goroutine();
    if (!at.address) {
      return 0;
    }
    __u64 own = weir_request_of_goroutine(&at);
    __u64* connection = own || socket->direction ? 0 : bpf_map_lookup_elem(&weir_go_writers, &at);
    if (!connection) {
      return own;
    }
    socket->connection = *connection;
    bpf_map_delete_elem(&weir_go_writers, &at);
    at.address = socket->connection;
  }
  __u64* known = bpf_map_lookup_elem(&weir_go_calls, &at);
  __u64 request = known ? *known : 0;
  // For one call: where probes were taken out there is no next one.
  bpf_map_delete_elem(&weir_go_calls, &at);
  return request;
}
