// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// The end of a listening socket, also of one that is older than the sockops hook or
// lives outside of its cgroup. One of the two programs is loaded.
#include "bpf/lib/listening.h"
#include "bpf/lib/maps.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline void weir_on_listen_end(struct sock* sk) {
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, sk, 0, 0);
  if (known) {
    weir_end_listening(known);
  }
}

// Runs for listening sockets only.
SEC("fentry/inet_csk_listen_stop")
int BPF_PROG(weir_listen_stop, struct sock* sk) {
  weir_on_listen_end(sk);
  return 0;
}

// Where the kernel or the architecture has no fentry: runs for every change of state.
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(weir_state, struct sock* sk, int former, int now) {
  if (former == BPF_TCP_LISTEN && now != BPF_TCP_LISTEN) {
    weir_on_listen_end(sk);
  }
  return 0;
}
