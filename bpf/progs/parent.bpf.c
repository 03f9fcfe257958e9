// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Which request a process was serving when it wrote to an outbound connection: told from
// the reads and writes of its sockets, in process context and before bytes are queued, so
// that the answer is there when the agent reads the request. Only hints: no byte changes.
// The rule is docs/causality.md; "none" whenever it does not allow an answer.
#include "bpf/lib/address.h"
#include "bpf/lib/causality_maps.h"
#include "bpf/lib/requests.h"
#include "bpf/lib/runtime.h"
#include "bpf/lib/turn.h"
#include "bpf/lib/workload.h"

char LICENSE[] SEC("license") = "GPL";

const volatile struct weir_agent_process weir_agent;

/* Processes of workloads with WEIR_WORKLOAD_GO that were seen for the first time; the agent
 * looks for new programs when it changes. */
__u64 weir_go_arrivals = 0;

#define WEIR_MSG_PEEK 2
#define WEIR_MSG_ERRQUEUE 0x2000

static __always_inline struct weir_tuple weir_tuple_of_sock(const struct sock* sk) {
  const struct sock_common* common = &sk->__sk_common;
  struct weir_tuple tuple = {.netns_cookie = common->skc_net.net->net_cookie,
                             .local_port = common->skc_num,
                             .remote_port = bpf_ntohs(common->skc_dport)};
  if (common->skc_family == WEIR_AF_INET) {
    tuple.local = weir_v4(common->skc_rcv_saddr);
    tuple.remote = weir_v4(common->skc_daddr);
  } else {
    bpf_core_read(&tuple.local, sizeof(tuple.local), &common->skc_v6_rcv_saddr);
    bpf_core_read(&tuple.remote, sizeof(tuple.remote), &common->skc_v6_daddr);
  }
  return tuple;
}

// ---- which sockets ----

static __always_inline int weir_is_tcp(const struct sock* sk) {
  __u16 family = sk->__sk_common.skc_family;
  return (family == WEIR_AF_INET || family == WEIR_AF_INET6) && sk->sk_protocol == WEIR_IPPROTO_TCP;
}

// The flags of this socket's workload; 0 unless parents are wanted for what it sends.
// *by_cgroup: that took a walk, whose answer is worth keeping.
static __always_inline __u32 weir_workload_flags(const struct sock* sk, int* by_cgroup) {
  __u64 cookie = sk->__sk_common.skc_net.net->net_cookie;
  struct weir_workload* workload = bpf_map_lookup_elem(&weir_netns, &cookie);
  if (!workload) {
    __u32 levels = weir_host_levels(cookie);
    if (!levels) {
      return 0;
    }
    *by_cgroup = 1;
    workload = weir_workload_of_cgroup(BPF_CORE_READ(sk, sk_cgrp_data.cgroup), levels);
  }
  return workload && (workload->flags & WEIR_WORKLOAD_INFER) ? workload->flags : 0;
}

static __always_inline int weir_is_agent(void) {
  struct bpf_pidns_info known = {};
  return weir_agent.pid &&
         bpf_get_ns_current_pid_tgid(weir_agent.pid_namespace_device,
                                     weir_agent.pid_namespace_inode, &known, sizeof(known)) == 0 &&
         known.tgid == weir_agent.pid;
}

static __always_inline int weir_listens_on(const struct weir_tuple* tuple) {
  struct weir_listening_key key = {
      .netns_cookie = tuple->netns_cookie, .address = tuple->local, .port = tuple->local_port};
  if (bpf_map_lookup_elem(&weir_listening, &key)) {
    return 1;
  }
  struct weir_address any = {};
  key.address = weir_is_v4(&tuple->local) ? weir_v4(0) : any;
  return bpf_map_lookup_elem(&weir_listening, &key) != 0;
}

// A connection that the agent delivers, as the agent's side has it recorded.
static __always_inline struct weir_leg* weir_delivery_of(const struct weir_tuple* tuple) {
  struct weir_tuple opener = {.netns_cookie = tuple->netns_cookie,
                              .local = tuple->remote,
                              .remote = tuple->local,
                              .local_port = tuple->remote_port,
                              .remote_port = tuple->local_port};
  struct weir_leg* leg = bpf_map_lookup_elem(&weir_legs, &opener);
  return leg && leg->kind == WEIR_LEG_DELIVERY ? leg : 0;
}

// `accepted`: known to be; for a socket that is older than the hooks its port tells.
static __always_inline void weir_classify(struct sock* sk, struct weir_parent_socket* socket,
                                          int accepted) {
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, 0);
  if ((known && (known->flags & WEIR_SOCK_OWN)) || weir_is_agent()) {
    socket->kind = WEIR_KIND_IGNORED;
    return;
  }
  if (known && (known->flags & WEIR_SOCK_REDIRECTED)) {
    socket->kind = WEIR_KIND_OUTBOUND;
    return;
  }
  struct weir_tuple tuple = weir_tuple_of_sock(sk);
  struct weir_leg* leg = weir_delivery_of(&tuple);
  if (leg) {
    socket->handle = leg->request_handle;
    socket->flags |= leg->request_handle ? 0 : WEIR_SOCKET_UNTRACKED;
  }
  socket->kind =
      leg || accepted || weir_listens_on(&tuple) ? WEIR_KIND_INBOUND : WEIR_KIND_OUTBOUND;
}

static __always_inline struct weir_parent_socket* weir_make_socket(struct sock* sk) {
  struct weir_parent_socket* socket =
      bpf_sk_storage_get(&weir_parent_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!socket) {
    weir_count(WEIR_PARENT_NO_STORAGE);
  }
  return socket;
}

// `enrolled`: weir_workload_flags().
static __always_inline void weir_note_hooks(struct weir_parent_socket* socket, __u32 enrolled) {
  if (enrolled & WEIR_WORKLOAD_GO) {
    socket->flags |= WEIR_SOCKET_GO;
  }
  if (enrolled & WEIR_WORKLOAD_NODE) {
    socket->flags |= WEIR_SOCKET_NODE;
  }
}

// Has the agent look at the process that it runs in, once.
static __always_inline void weir_note_program(__u32 enrolled) {
  struct weir_process_key key = weir_this_process();
  if (!(enrolled & WEIR_WORKLOAD_GO) || bpf_map_lookup_elem(&weir_go_processes, &key)) {
    return;
  }
  __u8 told = 1;
  bpf_map_update_elem(&weir_go_processes, &key, &told, BPF_ANY);
  __sync_fetch_and_add(&weir_go_arrivals, 1);
}

// Null: nothing to do for it.
static __always_inline struct weir_parent_socket* weir_find_socket(struct sock* sk) {
  if (!weir_is_tcp(sk)) {
    return 0;
  }
  struct weir_parent_socket* socket = bpf_sk_storage_get(&weir_parent_sockets, sk, 0, 0);
  if (socket) {
    if (socket->kind == WEIR_KIND_ACCEPTED) {
      weir_classify(sk, socket, 1);
    }
    return socket->kind == WEIR_KIND_IGNORED ? 0 : socket;
  }
  int by_cgroup = 0;
  __u32 enrolled = weir_workload_flags(sk, &by_cgroup);
  if (!enrolled && !by_cgroup) {
    return 0;
  }
  socket = weir_make_socket(sk);
  if (!socket) {
    weir_doubt_process();
    return 0;
  }
  weir_note_hooks(socket, enrolled);
  if (!enrolled) {
    socket->kind = WEIR_KIND_IGNORED;
    return 0;
  }
  weir_classify(sk, socket, 0);
  return socket->kind == WEIR_KIND_IGNORED ? 0 : socket;
}

// ---- reads ----

// Requests that move between threads, or a thread that serves several at once outside of
// an event loop, leave nothing that the turn rule could stand on.
static __always_inline void weir_watch_threads(struct weir_thread* thread, __u64 request,
                                               const struct weir_process_key* key,
                                               struct weir_process* process) {
  if (process->turn_off) {
    return;
  }
  if (!thread->eventpoll) {
    if (thread->own != request && weir_is_request_open(thread->own)) {
      process->turn_off = 1;
    }
    thread->own = request;
    return;
  }
  struct weir_epoll_key at = {.eventpoll = thread->eventpoll, .process = *key};
  __u32 reader = (__u32)bpf_get_current_pid_tgid();
  __u32* known = bpf_map_lookup_elem(&weir_epolls, &at);
  if (!known) {
    // If it does not fit, a second reader is seen a request later.
    bpf_map_update_elem(&weir_epolls, &at, &reader, BPF_ANY);
  } else if (*known != reader) {
    process->turn_off = 1;
  }
}

static __always_inline void weir_mark_multiplexed(struct weir_parent_socket* socket,
                                                  const struct weir_process_key* key,
                                                  struct weir_process* process) {
  weir_close_request(socket, 0);
  socket->flags |= WEIR_SOCKET_MULTIPLEXED;
  socket->process = *key;
  socket->born = process->born;
  __sync_fetch_and_add(&process->multiplexed, 1);
}

static __always_inline void weir_unmark_multiplexed(struct weir_parent_socket* socket) {
  if (!(socket->flags & WEIR_SOCKET_MULTIPLEXED)) {
    return;
  }
  socket->flags &= ~WEIR_SOCKET_MULTIPLEXED;
  struct weir_process* process = bpf_map_lookup_elem(&weir_processes, &socket->process);
  if (process && process->born == socket->born) {
    __sync_fetch_and_add(&process->multiplexed, -1);
  }
}

// Bytes that the agent delivers without a request's number are of a protocol that it does
// not follow: how many requests they are nobody knows. So it is without a slot.
static __always_inline int weir_is_multiplexed(const struct weir_parent_socket* socket,
                                               const struct weir_slot* slot) {
  if (!slot) {
    return socket->flags & (WEIR_SOCKET_MULTIPLEXED | WEIR_SOCKET_UNTRACKED);
  }
  return (slot->flags & WEIR_SLOT_MULTIPLEXED) ||
         (!slot->number && !(slot->flags & WEIR_SLOT_STREAMS));
}

// What is read of an HTTP/2 connection without a stream is no request's.
static __always_inline int weir_is_between_streams(const struct weir_slot* slot) {
  return slot && (slot->flags & WEIR_SLOT_STREAMS) && slot->ended == slot->number;
}

// Of a stream that was broken off the process may not know yet.
static __always_inline void weir_end_former(struct weir_parent_socket* socket,
                                            const struct weir_slot* slot) {
  int broken_off = slot && (slot->flags & WEIR_SLOT_STREAMS) &&
                   slot->ended != (__u32)socket->request && socket->request >> 32 == socket->handle;
  weir_close_request(socket, broken_off);
}

static __always_inline void weir_read_inbound(struct sock* sk, struct weir_parent_socket* socket,
                                              struct weir_thread* thread, int flags) {
  struct weir_process_key key = weir_this_process();
  struct weir_process* process = weir_process_of(&key);
  if (!process) {
    return;
  }
  struct weir_slot* slot = weir_slot_of(socket->handle);
  if (weir_is_multiplexed(socket, slot)) {
    if (!(socket->flags & WEIR_SOCKET_MULTIPLEXED)) {
      weir_mark_multiplexed(socket, &key, process);
    }
    weir_begin_turn(thread, sk, flags, 0);
    return;
  }
  weir_unmark_multiplexed(socket);
  if (weir_is_between_streams(slot)) {
    weir_end_former(socket, slot);
    weir_begin_turn(thread, sk, flags, 0);
    return;
  }
  __u64 request = slot ? (__u64)socket->handle << 32 | slot->number : weir_foreign_request(sk);
  weir_begin_turn(thread, sk, flags, request);
  if (request != socket->request || !(socket->flags & WEIR_SOCKET_OPEN)) {
    weir_watch_threads(thread, request, &key, process);
    weir_end_former(socket, slot);
    weir_open_request(socket, request, slot, &key, process);
  }
  socket->direction = WEIR_READ;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(weir_recv, struct sock* sk, int result, int flags) {
  if (result <= 0 || (flags & (WEIR_MSG_PEEK | WEIR_MSG_ERRQUEUE))) {
    return 0;
  }
  struct weir_parent_socket* socket = weir_find_socket(sk);
  if (!socket) {
    return 0;
  }
  struct weir_thread* thread = weir_this_thread();
  if (!thread) {
    weir_count(WEIR_PARENT_NO_STORAGE);
    weir_doubt_process();
    return 0;
  }
  if (socket->kind == WEIR_KIND_INBOUND) {
    weir_read_inbound(sk, socket, thread, flags);
    if (socket->flags & WEIR_SOCKET_GO) {
      weir_note_goroutine(socket->request, &socket->process, result);
    }
  } else {
    // An answer: the thread goes on with the request whose call it was.
    weir_begin_turn(thread, sk, flags, socket->flags & WEIR_SOCKET_SHARED ? 0 : socket->request);
    socket->direction = WEIR_READ;
  }
  return 0;
}

// ---- writes ----

static __always_inline __u64 weir_hash_destination(const struct weir_address* address, __u16 port) {
  __u64 hash = ((__u64)address->words_be[0] << 32 | address->words_be[1]) ^ 0x9e3779b97f4a7c15ULL;
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93ULL;
  hash ^= (__u64)address->words_be[2] << 32 | address->words_be[3];
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93ULL;
  hash = (hash ^ port ^ (hash >> 32)) * 0xd6e8feb86659fd93ULL;
  return hash | 1;
}

static __always_inline __u64 weir_destination_of(struct sock* sk, const struct weir_tuple* tuple) {
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, 0);
  return known && (known->flags & WEIR_SOCK_REDIRECTED)
             ? weir_hash_destination(&known->original.address, known->original.port)
             : weir_hash_destination(&tuple->remote, tuple->remote_port);
}

static __always_inline struct weir_destination* weir_find_destination(
    const struct weir_process_key* process, __u64 destination) {
  struct weir_destination_key key = {.process = *process, .destination = destination};
  struct weir_destination* known = bpf_map_lookup_elem(&weir_destinations, &key);
  if (known) {
    return known;
  }
  struct weir_destination fresh = {};
  bpf_map_update_elem(&weir_destinations, &key, &fresh, BPF_NOEXIST);
  return bpf_map_lookup_elem(&weir_destinations, &key);
}

static __always_inline void weir_withdraw(struct weir_destination* destination) {
  if (destination->trusted) {
    weir_count(WEIR_PARENT_WITHDRAWN);
  }
  destination->trusted = 0;
  destination->streak = 0;
}

// The one open request of a process, or 0.
static __always_inline __u64 weir_sole_request(const struct weir_open* open) {
  if (open->count != 1 || open->uncertain) {
    return 0;
  }
  __u64 request = open->ids;
  // While another thread opens or closes one, the two do not fit together.
  return request & WEIR_FOREIGN || weir_is_request_open(request) ? request : 0;
}

// With one request open the truth is known, and the turn rule is measured against it.
static __always_inline void weir_calibrate(struct weir_destination* destination, __u64 turn,
                                           __u64 sole) {
  if (destination->sole_samples < WEIR_CALIBRATION_SAMPLES) {
    ++destination->sole_samples;
  }
  if (turn != sole) {
    weir_withdraw(destination);
    return;
  }
  if (destination->streak < WEIR_CALIBRATION_SAMPLES) {
    ++destination->streak;
  }
  if (destination->streak >= WEIR_CALIBRATION_SAMPLES) {
    destination->trusted = 1;
  }
}

struct weir_answer {
  __u64 request; /* 0: none */
  __u64 owner;   /* whose call the connection carries, for its answer */
  __u32 source;
  __u32 why; /* enum weir_counter */
};

// The rule. `turn`: the request of the thread's turn, or 0.
static __always_inline struct weir_answer weir_decide_parent(struct weir_process* process,
                                                             struct weir_destination* destination,
                                                             __u64 destination_id, __u64 turn) {
  struct weir_answer answer = {};
  struct weir_open open = weir_open_of(process);
  if (open.count <= 0) {
    if (!process->multiplexed && !open.uncertain) {
      destination->tainted = 1;
    }
    answer.why = WEIR_PARENT_NO_REQUEST_OPEN;
    return answer;
  }
  if (process->multiplexed) {
    answer.why = WEIR_PARENT_MULTIPLEXED;
    return answer;
  }
  struct weir_slot* slot = weir_slot_of_request(turn);
  if (turn && !(turn & WEIR_FOREIGN) && (!slot || !weir_is_open(slot))) {
    // Still busy behind its answer: whatever is open now is not what it works on.
    if (slot && slot->state != WEIR_REQUEST_ABORTED) {
      weir_withdraw(destination);
    }
    answer.why = WEIR_PARENT_AMBIGUOUS;
    return answer;
  }
  __u64 sole = weir_sole_request(&open);
  if (sole) {
    weir_calibrate(destination, turn, sole);
  }
  if (slot && weir_count_call(slot, destination_id, destination->max_calls) &&
      slot->alone != process->begun) {
    weir_withdraw(destination);
  }
  if (sole && turn == sole) {
    answer.owner = sole;
  }
  if (destination->tainted) {
    answer.why = WEIR_PARENT_TAINTED;
  } else if (destination->sole_samples < WEIR_CALIBRATION_SAMPLES) {
    answer.why = WEIR_PARENT_CALIBRATING;
  } else if (destination->trusted && slot && !process->turn_off) {
    answer.why = WEIR_PARENT_BY_TURN;
    answer.request = turn;
    answer.owner = turn;
    answer.source = WEIR_PARENT_TURN;
  } else if (sole && !(sole & WEIR_FOREIGN)) {
    answer.why = WEIR_PARENT_BY_SOLE;
    answer.request = sole;
    answer.source = WEIR_PARENT_SOLE;
  } else {
    answer.why = WEIR_PARENT_AMBIGUOUS;
  }
  return answer;
}

// Whether the runtime itself knows whose call begins on `socket`; *request is 0 for nobody's.
static __always_inline int weir_ask_runtime(struct weir_parent_socket* socket,
                                            const struct weir_process_key* key, __u64* request) {
  if (socket->flags & WEIR_SOCKET_MARKED) {
    socket->flags &= ~WEIR_SOCKET_MARKED;
    *request = socket->marked & WEIR_FOREIGN ? 0 : socket->marked;
    return 1;
  }
  *request = socket->flags & WEIR_SOCKET_GO ? weir_go_call(socket, key) : 0;
  return *request != 0;
}

static __always_inline struct weir_answer weir_answer_of_runtime(__u64 request) {
  struct weir_answer answer = {.request = request, .owner = request};
  answer.source = request ? WEIR_PARENT_RUNTIME : WEIR_PARENT_NONE;
  answer.why = request ? WEIR_PARENT_BY_RUNTIME : WEIR_PARENT_RUNTIME_NONE;
  return answer;
}

// The context of a request, unless the agent is exchanging it.
static __always_inline int weir_copy_context(struct weir_trace_context* to, __u64 request) {
  struct weir_slot* slot = weir_slot_of_request(request);
  if (!slot) {
    return 0;
  }
  *to = slot->context;
  __sync_fetch_and_add(&slot->state, 0);  // a barrier: what follows is read behind the copy
  return slot->handle == (__u32)(request >> 32) && slot->number == (__u32)request;
}

static __always_inline int weir_copy_span(struct weir_span_ref* to, __u64 request) {
  struct weir_slot* slot = weir_slot_of_request(request);
  if (!slot || !weir_is_open(slot)) {
    return 0;
  }
  *to = slot->context.span;
  __sync_fetch_and_add(&slot->state, 0);
  return slot->handle == (__u32)(request >> 32) && slot->number == (__u32)request;
}

// All open requests, if they are few and all known.
static __always_inline void weir_list_candidates(struct weir_hint* hint,
                                                 const struct weir_process* process) {
  if (process->multiplexed || process->open_count < 2 ||
      process->open_count > WEIR_MAX_CANDIDATES) {
    return;
  }
  __u32 count = 0;
  for (int i = 0; i < WEIR_MAX_CANDIDATES; ++i) {
    struct weir_span_ref span = {};
    if (weir_copy_span(&span, process->candidates[i]) && count < WEIR_MAX_CANDIDATES) {
      hint->candidates[count] = span;
      ++count;
    }
  }
  hint->candidate_count = count == process->open_count ? count : 0;
}

static __always_inline void weir_leave_hint(struct weir_parent_socket* socket,
                                            const struct weir_tuple* tuple,
                                            const struct weir_process* process,
                                            const struct weir_answer* answer, int no_links) {
  struct weir_hint hint = {};
  if (answer->source != WEIR_PARENT_NONE && weir_copy_context(&hint.parent, answer->request)) {
    hint.source = answer->source;
  } else if (!no_links) {
    weir_list_candidates(&hint, process);
  }
  if (hint.source == WEIR_PARENT_NONE && !hint.candidate_count) {
    // One of an earlier request that the agent had no use for.
    if (socket->flags & WEIR_SOCKET_HINTED) {
      bpf_map_delete_elem(&weir_hints, tuple);
      socket->flags &= ~WEIR_SOCKET_HINTED;
    }
    return;
  }
  if (bpf_map_update_elem(&weir_hints, tuple, &hint, BPF_ANY)) {
    weir_count(WEIR_PARENT_HINT_FULL);
    return;
  }
  socket->flags |= WEIR_SOCKET_HINTED;
}

// More bytes before an answer came: of the same call, or of another one that shares the
// connection; then nobody can say whose answer comes next.
static __always_inline void weir_continue_call(struct weir_parent_socket* socket, __u64 turn,
                                               const struct weir_process* process) {
  if (turn != socket->turn && (turn || weir_open_of(process).count != 1)) {
    socket->flags |= WEIR_SOCKET_SHARED;
  }
}

static __always_inline void weir_write_outbound(struct sock* sk, struct weir_parent_socket* socket,
                                                const struct weir_thread* thread) {
  struct weir_process_key key = weir_this_process();
  struct weir_process* process = weir_process_of(&key);
  if (!process) {
    weir_count(WEIR_PARENT_NO_STORAGE);
    return;
  }
  __u64 turn = weir_turn_request(thread);
  if (socket->direction == WEIR_WRITTEN) {
    weir_continue_call(socket, turn, process);
    return;
  }
  __u64 by_runtime = 0;
  int is_told = weir_ask_runtime(socket, &key, &by_runtime);
  // Who opened a connection did so for its first call, even if that is not known.
  if (socket->flags & WEIR_SOCKET_CONNECTED) {
    socket->flags &= ~WEIR_SOCKET_CONNECTED;
    turn = socket->at_connect;
  }
  socket->direction = WEIR_WRITTEN;
  socket->turn = turn;
  struct weir_tuple tuple = weir_tuple_of_sock(sk);
  __u64 destination_id = weir_destination_of(sk, &tuple);
  struct weir_destination* destination = weir_find_destination(&key, destination_id);
  if (!destination) {
    weir_count(WEIR_PARENT_NO_STORAGE);
    socket->request = 0;
    return;
  }
  // The rule goes on learning, whoever answers.
  struct weir_answer answer = weir_decide_parent(process, destination, destination_id, turn);
  if (is_told) {
    answer = weir_answer_of_runtime(by_runtime);
  }
  weir_count(answer.why);
  socket->request = answer.owner;
  weir_leave_hint(socket, &tuple, process, &answer, is_told || destination->tainted);
}

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(weir_send, struct sock* sk) {
  struct weir_parent_socket* socket = weir_find_socket(sk);
  if (!socket) {
    return 0;
  }
  if (socket->kind == WEIR_KIND_INBOUND) {
    struct weir_slot* slot = weir_slot_of(socket->handle);
    if (!slot || !(slot->flags & WEIR_SLOT_STREAMS)) {
      weir_close_request(socket, 0);
    }
    socket->direction = WEIR_WRITTEN;
    return 0;
  }
  struct weir_thread* thread = weir_this_thread();
  if (!thread) {
    weir_count(WEIR_PARENT_NO_STORAGE);
    return 0;
  }
  weir_write_outbound(sk, socket, thread);
  return 0;
}

// ---- begin and end of connections ----

static __always_inline void weir_on_connect(struct sock* sk) {
  int by_cgroup = 0;
  __u32 enrolled = weir_workload_flags(sk, &by_cgroup);
  if (!enrolled) {
    return;
  }
  weir_note_program(enrolled);
  struct weir_parent_socket* socket = weir_make_socket(sk);
  struct weir_thread* thread = socket ? weir_this_thread() : 0;
  if (!thread) {
    return;
  }
  __builtin_memset(socket, 0, sizeof(*socket));  // it may be connected again
  weir_note_hooks(socket, enrolled);
  weir_classify(sk, socket, 0);
  if (socket->kind == WEIR_KIND_INBOUND) {
    socket->kind = WEIR_KIND_OUTBOUND;  // from a port that somebody listens on
  }
  if (socket->kind == WEIR_KIND_OUTBOUND) {
    socket->at_connect = weir_turn_request(thread);
    socket->flags |= WEIR_SOCKET_CONNECTED;
  }
}

static __always_inline void weir_on_accept(struct sock* sk) {
  int by_cgroup = 0;
  __u32 enrolled = weir_workload_flags(sk, &by_cgroup);
  struct weir_parent_socket* socket = enrolled ? weir_make_socket(sk) : 0;
  if (socket) {  // WEIR_KIND_ACCEPTED
    weir_note_hooks(socket, enrolled);
  }
}

// A server's program is looked at before its first request comes.
static __always_inline void weir_on_listen(struct sock* sk) {
  int by_cgroup = 0;
  weir_note_program(weir_workload_flags(sk, &by_cgroup));
}

// The application's own end of its connection comes before a state of the peer's making.
static __always_inline void weir_on_leave(struct sock* sk, struct weir_parent_socket* socket,
                                          int former, int now) {
  if (socket->kind == WEIR_KIND_INBOUND) {
    int open = former == BPF_TCP_ESTABLISHED || former == BPF_TCP_CLOSE_WAIT;
    // tcp_reset() is what leads from an open state to this one, or a close with unread
    // bytes; the latter runs in the process that had the request.
    int aborted = open && now == BPF_TCP_CLOSE;
    weir_close_request(socket, aborted);
    if (now == BPF_TCP_CLOSE) {
      weir_unmark_multiplexed(socket);
    }
  } else if (now == BPF_TCP_CLOSE && (socket->flags & WEIR_SOCKET_HINTED)) {
    struct weir_tuple tuple = weir_tuple_of_sock(sk);
    // It has given its port back, but remembers it.
    tuple.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock*)sk, inet_sport));
    bpf_map_delete_elem(&weir_hints, &tuple);
    socket->flags &= ~WEIR_SOCKET_HINTED;
  }
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(weir_parent_state, struct sock* sk, int former, int now) {
  if (now == BPF_TCP_CLOSE_WAIT || !weir_is_tcp(sk)) {
    return 0;
  }
  if (now == BPF_TCP_LISTEN) {
    weir_on_listen(sk);
    return 0;
  }
  if (now == BPF_TCP_SYN_SENT) {
    weir_on_connect(sk);
    return 0;
  }
  if (now == BPF_TCP_ESTABLISHED) {
    if (former == BPF_TCP_SYN_RECV) {
      weir_on_accept(sk);
    }
    return 0;
  }
  struct weir_parent_socket* socket = bpf_sk_storage_get(&weir_parent_sockets, sk, 0, 0);
  if (socket) {
    weir_on_leave(sk, socket, former, now);
  }
  return 0;
}
