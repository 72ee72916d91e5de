// SPDX-License-Identifier: MIT
#include "userland/target/place_job.h"

#include <cerrno>
#include <utility>

namespace weft::target {

idl::JobResult ResultFor(const idl::Job& job) {
  idl::JobResult result;
  result.kind = job.kind;
  result.chunk = job.chunk;
  result.version = job.version;
  result.attempt = job.attempt;
  result.offset = job.offset;
  return result;
}

PlaceJob::PlaceJob(JobHost* host, const idl::Job& job) : host_(host), job_(job), result_(ResultFor(job)) {}

PlaceJob::~PlaceJob() {
  for (size_t i = 0; i < using_; i++) host_->peers->Release(job_.peers[i].id);
}

bool PlaceJob::UsePeers() {
  for (; using_ < job_.peers.size(); using_++) {
    if (Status s = host_->peers->Use(job_.peers[using_]); !s.ok()) {
      Fail(s.code(), s.message());
      Finish();
      return false;
    }
  }
  return true;
}

void PlaceJob::Fail(int error, std::string message) {
  if (failed()) return;
  result_.error = error;
  result_.message = std::move(message);
}

void PlaceJob::FailAt(std::string_view what, int error) {
  std::string name = fmt::format("{}: {}", Name(), what);
  Fail(error,
       error == ESTALE ? name + ": a newer version of the chunk is known there" : Status::Errno(error, name).message());
}

std::string PlaceJob::Name() const {
  const char* what = job_.kind == idl::JobKind::COPY      ? "copy"
                     : job_.kind == idl::JobKind::REPAIR  ? "repair"
                     : job_.kind == idl::JobKind::RELEASE ? "release"
                                                          : "scrub";
  return fmt::format("{} of chunk {}", what, job_.chunk);
}

}  // namespace weft::target
