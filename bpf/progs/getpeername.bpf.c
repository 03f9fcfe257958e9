// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// getpeername() of redirected sockets names what the application connected to.
#include "bpf/lib/address.h"
#include "bpf/lib/maps.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline struct weir_original* weir_original_of(struct bpf_sock_addr* ctx) {
  if (!ctx->sk) {
    return 0;
  }
  struct weir_sock* known = bpf_sk_storage_get(&weir_sockets, ctx->sk, 0, 0);
  return known && (known->flags & WEIR_SOCK_REDIRECTED) ? &known->original : 0;
}

SEC("cgroup/getpeername4")
int weir_getpeername4(struct bpf_sock_addr* ctx) {
  struct weir_original* original = weir_original_of(ctx);
  if (original) {
    ctx->user_ip4 = original->address.words_be[3];
    ctx->user_port = bpf_htons(original->port);
  }
  return 1;
}

SEC("cgroup/getpeername6")
int weir_getpeername6(struct bpf_sock_addr* ctx) {
  struct weir_original* original = weir_original_of(ctx);
  if (original) {
    ctx->user_ip6[0] = original->address.words_be[0];
    ctx->user_ip6[1] = original->address.words_be[1];
    ctx->user_ip6[2] = original->address.words_be[2];
    ctx->user_ip6[3] = original->address.words_be[3];
    ctx->user_port = bpf_htons(original->port);
  }
  return 1;
}
