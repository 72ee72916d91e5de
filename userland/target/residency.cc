// SPDX-License-Identifier: MIT
#include "userland/target/residency.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>

#include "userland/base/log.h"
#include "userland/base/status.h"

namespace weft::target {

void StayResident() {
  if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) {
    LogWarning("{}; give CAP_IPC_LOCK or raise `ulimit -l`: without it this target may be swapped out",
               Status::Errno(errno, "mlockall").message());
  }
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)) {
    LogWarning("{}; give CAP_SYS_RESOURCE: without it memory that this target asks for may wait for itself",
               Status::Errno(errno, "PR_SET_IO_FLUSHER").message());
  }
}

}  // namespace weft::target
