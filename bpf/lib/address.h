/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "bpf/abi/interception.h"
#include "bpf/lib/kernel.h"

static __always_inline struct weir_address weir_v4(__u32 address_be) {
  struct weir_address address = {{0, 0, bpf_htonl(0xffff), address_be}};
  return address;
}

static __always_inline int weir_is_v4(const struct weir_address* address) {
  return address->words_be[0] == 0 && address->words_be[1] == 0 &&
         address->words_be[2] == bpf_htonl(0xffff);
}

static __always_inline int weir_is_wildcard(const struct weir_address* address) {
  return address->words_be[0] == 0 && address->words_be[1] == 0 && address->words_be[3] == 0 &&
         (address->words_be[2] == 0 || address->words_be[2] == bpf_htonl(0xffff));
}

static __always_inline int weir_is_loopback(const struct weir_address* address) {
  if (weir_is_v4(address)) {
    return (bpf_ntohl(address->words_be[3]) >> 24) == 127;
  }
  return address->words_be[0] == 0 && address->words_be[1] == 0 && address->words_be[2] == 0 &&
         address->words_be[3] == bpf_htonl(1);
}

static __always_inline int weir_is_v6_link_local(const struct weir_address* address) {
  return (bpf_ntohl(address->words_be[0]) >> 22) == (0xfe80U >> 6);
}

static __always_inline int weir_same_address(const struct weir_address* one,
                                             const struct weir_address* other) {
  return one->words_be[0] == other->words_be[0] && one->words_be[1] == other->words_be[1] &&
         one->words_be[2] == other->words_be[2] && one->words_be[3] == other->words_be[3];
}

/* Spreads destinations (or tuples) over the workers; need not resist an attacker. */
static __always_inline __u32 weir_hash(const struct weir_address* address, __u32 seed) {
  __u32 hash = seed * 0x9e3779b1U;
  hash = (hash ^ address->words_be[0]) * 0x85ebca6bU;
  hash = (hash ^ address->words_be[1]) * 0xc2b2ae35U;
  hash = (hash ^ address->words_be[2]) * 0x85ebca6bU;
  hash = (hash ^ address->words_be[3]) * 0xc2b2ae35U;
  return hash ^ (hash >> 15);
}
