// SPDX-License-Identifier: MIT
#include "userland/target/place_release.h"

#include <algorithm>

#include "rdma/block_wire.h"
#include "userland/base/log.h"

namespace weft::target {

void PlaceRelease::Start() {
  Status s = host_->places->Track(offset(), version(), rdma::Places::Since::kNow);
  if (!s.ok()) {
    Fail(s.code(), s.message());
    Finish();
    return;
  }
  host_->places->Untrack(offset());
  waiting_ = true;
  host_->places->Lock(range(), [this] {
    waiting_ = false;
    discarding_ = true;
    Discard();
  });
}

void PlaceRelease::CallOff() {
  PlaceJob::CallOff();
  if (std::exchange(waiting_, false)) host_->places->Unlock(range());
}

void PlaceRelease::Discard() {
  auto length = static_cast<uint32_t>(std::min<uint64_t>(bytes() - done_bytes_, rdma::kRangeBytesMax));
  host_->engine->Execute(
      {.op = rdma::BackendOp::kDiscard, .offset_bytes = offset() + done_bytes_, .length_bytes = length},
      [this, length](int32_t result) {
        if (result == -EHOSTDOWN) {  // nothing was sent: what the place holds would not read as zeroes
          Fail(EHOSTDOWN, "the device is out of reach");
        } else {
          // The place is free either way; the device just does not know.
          if (result < 0) LogWarning("{}", Status::Errno(-result, Name() + ": discard").message());
          done_bytes_ += length;
          if (done_bytes_ < bytes()) return Discard();
        }
        discarding_ = false;
        Finish();
        host_->places->Unlock(range());
      });
}

}  // namespace weft::target
