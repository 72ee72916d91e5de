// SPDX-License-Identifier: MIT
#include "userland/target/job_runner.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "userland/base/log.h"
#include "userland/target/label.h"
#include "userland/target/place_copy.h"
#include "userland/target/place_release.h"
#include "userland/target/place_repair.h"
#include "userland/target/place_scrub.h"

namespace weft::target {
namespace {

constexpr size_t kRunningMax = 16;

// What a job of a mistaken server must not make this target do.
Status Check(const idl::Job& job, const rdma::Places& places) {
  Status s = places.CheckPlace(static_cast<uint64_t>(job.offset));
  if (!s.ok()) return s.Annotate(fmt::format("job for chunk {}", job.chunk));
  if (static_cast<uint64_t>(job.bytes) != places.place_bytes()) {
    return Error(EINVAL, "job for chunk {}: {} bytes, but places of this target have {}", job.chunk, job.bytes,
                 places.place_bytes());
  }
  for (int64_t block : job.blocks) {
    if (block >= 0 && block < job.bytes / static_cast<int64_t>(kBlockBytes)) continue;
    return Error(EINVAL, "job for chunk {}: there is no block {} in it", job.chunk, block);
  }
  return Status::Ok();
}

}  // namespace

JobRunner::JobRunner(rdma::Places* places, PeerReader* peers, ResultCallback on_result, const rdma::Clock* clock)
    : on_result_(std::move(on_result)), clock_(clock ? clock : &steady_clock_) {
  host_.places = places;
  host_.peers = peers;
}

JobRunner::~JobRunner() = default;

std::unique_ptr<PlaceJob> JobRunner::Make(const idl::Job& job) {
  switch (job.kind) {
    case idl::JobKind::COPY:
      return std::make_unique<PlaceCopy>(&host_, job);
    case idl::JobKind::REPAIR:
      return std::make_unique<PlaceRepair>(&host_, job);
    case idl::JobKind::RELEASE:
      return std::make_unique<PlaceRelease>(&host_, job);
    case idl::JobKind::SCRUB:
      return std::make_unique<PlaceScrub>(&host_, job);
    default:
      return nullptr;
  }
}

void JobRunner::SetJobs(const idl::Jobs& jobs) {
  host_.resync.SetRate(static_cast<uint64_t>(std::max<int64_t>(0, jobs.resync_bytes_per_s)));
  host_.scrub.SetRate(static_cast<uint64_t>(std::max<int64_t>(0, jobs.scrub_bytes_per_s)));
  std::set<Key> listed;
  for (const idl::Job& job : jobs.jobs) listed.insert(KeyOf(job));
  std::erase_if(ended_, [&](const Key& key) { return !listed.contains(key); });
  std::set<Key> known = ended_;
  for (auto& job : running_) {
    if (!listed.contains(KeyOf(job->job()))) {
      if (!job->called_off()) job->CallOff();
    } else if (!job->called_off()) {
      known.insert(KeyOf(job->job()));
    }
  }
  waiting_.clear();
  for (const idl::Job& job : jobs.jobs) {
    if (known.insert(KeyOf(job)).second) waiting_.push_back(job);
  }
}

void JobRunner::StartWaiting() {
  for (auto job = waiting_.begin(); job != waiting_.end() && running_.size() < kRunningMax;) {
    bool busy = std::ranges::any_of(running_, [&](const auto& other) { return other->job().offset == job->offset; });
    if (busy) {
      ++job;
      continue;
    }
    Status checked = Check(*job, *host_.places);
    std::unique_ptr<PlaceJob> made = Make(*job);
    if (checked.ok() && !made)
      checked = Error(EOPNOTSUPP, "this target knows no jobs of kind {}", fmt::underlying(job->kind));
    if (checked.ok()) {
      running_.push_back(std::move(made));
      running_.back()->Start();
    } else {
      idl::JobResult result = ResultFor(*job);
      result.error = checked.code();
      result.message = checked.message();
      ended_.insert(KeyOf(*job));
      LogWarning("{}", checked.message());
      on_result_(std::move(result));
    }
    job = waiting_.erase(job);
  }
}

void JobRunner::End(PlaceJob* job) {
  if (job->called_off()) return;
  ended_.insert(KeyOf(job->job()));
  if (job->result().error) LogWarning("{}", job->result().message);
  on_result_(job->result());
}

size_t JobRunner::Poll() {
  size_t work = host_.peers->Poll();
  if (running_.empty() && waiting_.empty()) return work;
  host_.now_ms = clock_->NowMs();
  host_.wake_ms = UINT64_MAX;
  StartWaiting();
  for (auto& job : running_) job->Step();
  size_t before = running_.size();
  // Taken out first: what destroys a job may call back.
  auto ended = std::stable_partition(running_.begin(), running_.end(), [](const auto& job) { return !job->ended(); });
  std::vector<std::unique_ptr<PlaceJob>> gone(std::make_move_iterator(ended), std::make_move_iterator(running_.end()));
  running_.erase(ended, running_.end());
  for (auto& job : gone) End(job.get());
  NoteProgress();
  return work + before - running_.size();
}

bool JobRunner::Arm(int* timeout_ms) {
  if (!waiting_.empty() && running_.empty()) return false;
  if (host_.wake_ms != UINT64_MAX && !running_.empty()) {
    uint64_t now_ms = clock_->NowMs();
    if (host_.wake_ms <= now_ms) return false;
    auto left_ms = static_cast<int>(std::min<uint64_t>(host_.wake_ms - now_ms, 1000));
    *timeout_ms = *timeout_ms < 0 ? left_ms : std::min(*timeout_ms, left_ms);
  }
  return host_.peers->Arm();
}

void JobRunner::NoteProgress() {
  std::lock_guard lock(mutex_);
  progress_.resize(running_.size());
  for (size_t i = 0; i < running_.size(); i++) {
    const idl::Job& job = running_[i]->job();
    progress_[i].kind = job.kind;
    progress_[i].chunk = job.chunk;
    progress_[i].version = job.version;
    progress_[i].done_bytes = static_cast<int64_t>(running_[i]->done_bytes());
  }
}

std::vector<idl::JobProgress> JobRunner::Progress() {
  std::lock_guard lock(mutex_);
  return progress_;
}

}  // namespace weft::target
