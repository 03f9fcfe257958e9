// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// What runtimes say themselves about which request a call belongs to, for workloads that
// asked for it: two probes in Go's net/http, and the marks of the preload for Node.js. Only
// notes for the parent program; docs/causality.md says what is made of them.
#include "bpf/lib/runtime.h"

#include "bpf/lib/causality_maps.h"
#include "bpf/lib/workload.h"

char LICENSE[] SEC("license") = "GPL";

// ---- Go ----

#ifdef __TARGET_ARCH_x86

// Probes are in a file's code, whoever runs it.
static __always_inline int weir_is_wanted(void) {
  struct task_struct* task = bpf_get_current_task_btf();
  __u64 cookie = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);
  struct weir_workload* workload = bpf_map_lookup_elem(&weir_netns, &cookie);
  if (!workload) {
    __u32 levels = weir_host_levels(cookie);
    workload = levels ? weir_workload_of_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp), levels) : 0;
  }
  return workload && (workload->flags & WEIR_WORKLOAD_GO);
}

// net/http.(*persistConn).roundTrip, in the goroutine that wants an answer. Go's internal
// ABI since 1.17: R14 is g, AX the receiver, here where the function has looked whether its
// stack has to grow. If it has, it begins again.
SEC("uprobe")
int weir_go_round_trip(struct pt_regs* ctx) {
  if (!weir_is_wanted()) {
    return 0;
  }
  struct weir_go_object goroutine = {.address = ctx->r14, .process = weir_this_process()};
  struct weir_go_object connection = {.address = ctx->ax, .process = goroutine.process};
  __u64 request = weir_request_of_goroutine(&goroutine);
  if (bpf_map_update_elem(&weir_go_calls, &connection, &request, BPF_ANY)) {
    weir_count(WEIR_RUNTIME_FULL);
  }
  return 0;
}

// net/http.(*persistConn).writeLoop, in the goroutine that will write to the connection.
SEC("uprobe")
int weir_go_write_loop(struct pt_regs* ctx) {
  if (!weir_is_wanted()) {
    return 0;
  }
  struct weir_go_object goroutine = {.address = ctx->r14, .process = weir_this_process()};
  __u64 connection = ctx->ax;
  if (bpf_map_update_elem(&weir_go_writers, &goroutine, &connection, BPF_ANY)) {
    weir_count(WEIR_RUNTIME_FULL);
  }
  return 0;
}

#endif

// ---- Node.js ----

#define WEIR_SOL_SOCKET 1
#define WEIR_SO_KEEPALIVE 9
#define WEIR_TCP_KEEPIDLE 4
#define WEIR_PAGE_BYTES 4096

static __always_inline void weir_take_mark(struct weir_parent_socket* socket, __u32 mark) {
  struct weir_token at = {.thread = (__u32)bpf_get_current_pid_tgid(),
                          .token = mark & WEIR_MARK_TOKEN};
  if (mark & WEIR_MARK_INBOUND) {
    __u64 request = socket->kind == WEIR_KIND_INBOUND ? socket->request : 0;
    if (request && bpf_map_update_elem(&weir_tokens, &at, &request, BPF_ANY)) {
      weir_count(WEIR_RUNTIME_FULL);
    }
    return;
  }
  if (socket->kind != WEIR_KIND_OUTBOUND) {
    return;
  }
  __u64* request = at.token ? bpf_map_lookup_elem(&weir_tokens, &at) : 0;
  socket->flags &= ~WEIR_SOCKET_MARKED;
  if (request || !at.token) {
    socket->marked = request ? *request : 0;
    socket->flags |= WEIR_SOCKET_MARKED;
  }
}

// Node.js can set no option alone: with TCP_KEEPIDLE comes SO_KEEPALIVE, before it. That is
// undone, so that a mark changes nothing of the socket.
static __always_inline void weir_undo_keepalive(struct bpf_sockopt* ctx,
                                                const struct weir_parent_socket* socket) {
  int off = 0;
  if (!(socket->flags & WEIR_SOCKET_KEPT_ALIVE)) {
    bpf_setsockopt(ctx->sk, WEIR_SOL_SOCKET, WEIR_SO_KEEPALIVE, &off, sizeof(off));
  }
}

SEC("cgroup/setsockopt")
int weir_setsockopt(struct bpf_sockopt* ctx) {
  if (ctx->optlen > WEIR_PAGE_BYTES) {
    ctx->optlen = 0;  // the kernel uses what the application gave
    return 1;
  }
  int keepalive = ctx->level == WEIR_SOL_SOCKET && ctx->optname == WEIR_SO_KEEPALIVE;
  int idle = ctx->level == WEIR_IPPROTO_TCP && ctx->optname == WEIR_TCP_KEEPIDLE;
  if ((!keepalive && !idle) || !ctx->sk) {
    return 1;
  }
  struct weir_parent_socket* socket = bpf_sk_storage_get(&weir_parent_sockets, ctx->sk, 0, 0);
  if (!socket || !(socket->flags & WEIR_SOCKET_NODE)) {
    return 1;
  }
  if (keepalive) {
    int before = 0;
    bpf_getsockopt(ctx->sk, WEIR_SOL_SOCKET, WEIR_SO_KEEPALIVE, &before, sizeof(before));
    socket->flags &= ~WEIR_SOCKET_KEPT_ALIVE;
    if (before) {
      socket->flags |= WEIR_SOCKET_KEPT_ALIVE;
    }
    return 1;
  }
  __u32* value = ctx->optval;
  if ((void*)(value + 1) > ctx->optval_end ||
      (*value & ~(WEIR_MARK_INBOUND | WEIR_MARK_TOKEN)) != WEIR_MARK) {
    return 1;
  }
  weir_take_mark(socket, *value);
  weir_undo_keepalive(ctx, socket);
  bpf_set_retval(-WEIR_MARK_TAKEN);
  return 0;
}
