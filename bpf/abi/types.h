/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

/* Fixed-width types and assertions for what BPF programs (C) and the agent (C++) share.
 * Numbers are in host order unless a name ends in _be. */
#ifdef __bpf__
#include "vmlinux.h"
#else
#include <linux/types.h>
#endif

#ifdef __cplusplus
#define WEIR_ABI_ASSERT(condition) static_assert(condition, #condition)
#else
#define WEIR_ABI_ASSERT(condition) _Static_assert(condition, #condition)
#endif
#define WEIR_ABI_SIZE(type, bytes) WEIR_ABI_ASSERT(sizeof(struct type) == (bytes))
#define WEIR_ABI_OFFSET(type, member, bytes) \
  WEIR_ABI_ASSERT(__builtin_offsetof(struct type, member) == (bytes))
