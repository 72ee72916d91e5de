// SPDX-License-Identifier: MIT
//
// Parts of instructions that the system's <linux/bpf.h> is too old to name. Constants.
#pragma once

#include <linux/bpf.h>

namespace weft::balancer {

inline constexpr int kMemSigned = 0x80;  // BPF_MEMSX: a load that extends the sign
inline constexpr int kSigned = 1;        // `off` of BPF_DIV and BPF_MOD: signed

}  // namespace weft::balancer
