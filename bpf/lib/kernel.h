/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

/* The kernel's types and libbpf's helpers, in the order that they need. */
/* clang-format off */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
/* clang-format on */

#define WEIR_AF_INET 2
#define WEIR_AF_INET6 10
#define WEIR_IPPROTO_TCP 6
#define WEIR_ECONNREFUSED 111
#define WEIR_EADDRINUSE 98

/* Reads a field of a program's context in one instruction with a constant offset: the
 * compiler otherwise shares address arithmetic between fields, and the verifier refuses
 * a context pointer that was added to. */
#define WEIR_CTX_READ(type, size, ctx, field)                                 \
  ({                                                                          \
    type value_;                                                              \
    asm volatile("%0 = *(" size " *)(%1 + %2)"                                \
                 : "=r"(value_)                                               \
                 : "r"(ctx), "i"(__builtin_offsetof(typeof(*(ctx)), field))); \
    value_;                                                                   \
  })
#define WEIR_CTX_U32(ctx, field) WEIR_CTX_READ(__u32, "u32", ctx, field)
#define WEIR_CTX_U16(ctx, field) WEIR_CTX_READ(__u16, "u16", ctx, field)
#define WEIR_CTX_ADDRESS(ctx, field)                                                \
  ((struct weir_address){{WEIR_CTX_U32(ctx, field[0]), WEIR_CTX_U32(ctx, field[1]), \
                          WEIR_CTX_U32(ctx, field[2]), WEIR_CTX_U32(ctx, field[3])}})
