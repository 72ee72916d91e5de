// SPDX-License-Identifier: MIT
//
// fsck in a running server: checks a snapshot in the caller's thread while the server works on, and has the
// engine carry out the repairs, each of which looks again. Any thread; one run at a time.
#pragma once

#include <mutex>

#include "userland/meta/engine.h"
#include "userland/meta/fsck.h"

namespace weft {

class FsckOnline {
 public:
  explicit FsckOnline(Engine* engine) : engine_(engine) {}

  // EBUSY: one is running. ESHUTDOWN: the server stops.
  Result<idl::FsckReport> Run(bool repair);

 private:
  Engine* const engine_;
  std::mutex running_;
};

}  // namespace weft
