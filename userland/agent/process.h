// SPDX-License-Identifier: MIT
//
// Prepares a process that memory reclaim depends on: the kernel may have to write pages back through the
// agent before it can give the agent a page. So everything is locked in memory and allocations of the
// process never wait for that write-back. Call once, before the first thread is started.
#pragma once

namespace weft::agent {

// What fails is logged with its consequence and remedy: the agent works without, except under memory pressure.
void PrepareForWriteback();

}  // namespace weft::agent
