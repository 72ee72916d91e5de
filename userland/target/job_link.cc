// SPDX-License-Identifier: MIT
#include "userland/target/job_link.h"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

#include "thrift-gen/TargetService.h"
#include "userland/base/log.h"
#include "userland/rpc/client.h"
#include "userland/target/label.h"

namespace weft::target {
namespace {

constexpr int kListWaitMs = 5000;
constexpr int kReplyMs = 10'000;
constexpr int kPauseMs = 10;  // between lists: however often the server has news, this target does other things, too
constexpr int kBackoffMinMs = 100;
constexpr int kBackoffMaxMs = 5000;
// A call's frame and containers have bounds (userland/rpc/limits.h): what does not fit goes into the next call.
constexpr size_t kItemsPerCall = 1024;
constexpr size_t kBlocksPerCall = 16384;
constexpr size_t kMessageBytesMax = 1024;

class RpcJobs final : public JobService {
 public:
  RpcJobs(const Address& meta, const Uuid& uuid, int64_t instance)
      : lists_(meta, kTargetService, {.reply_ms = kListWaitMs + kReplyMs}),
        reports_(meta, kTargetService, {.reply_ms = kReplyMs}),
        uuid_(ToBytes(uuid)),
        instance_(instance) {}
  Result<idl::Jobs> NextJobs(int64_t version, int wait_ms) override {
    return lists_.Call([&](idl::TargetServiceClient& service) {
      idl::Jobs jobs;
      service.nextJobs(jobs, uuid_, instance_, version, wait_ms);
      return jobs;
    });
  }
  Status FinishJobs(const std::vector<idl::JobResult>& results) override {
    return reports_.Call([&](idl::TargetServiceClient& service) { service.finishJobs(uuid_, instance_, results); });
  }
  Status ReportDamage(const std::vector<idl::Damage>& damages) override {
    return reports_.Call([&](idl::TargetServiceClient& service) { service.reportDamage(uuid_, instance_, damages); });
  }
  void Interrupt() override {
    lists_.Interrupt();
    reports_.Interrupt();
  }

 private:
  RpcClient<idl::TargetServiceClient> lists_;
  RpcClient<idl::TargetServiceClient> reports_;
  const std::string uuid_;
  const int64_t instance_;
};

// By place, as the server wants it; a place with many of them in several.
std::vector<idl::Damage> ByPlace(const std::set<uint64_t>& offsets, uint64_t place_bytes) {
  std::vector<idl::Damage> damages;
  for (uint64_t offset : offsets) {
    auto place = static_cast<int64_t>(offset - offset % place_bytes);
    if (damages.empty() || damages.back().offset != place || damages.back().blocks.size() == BlocksPerItem()) {
      damages.emplace_back().offset = place;
    }
    damages.back().blocks.push_back(static_cast<int64_t>(offset % place_bytes / kBlockBytes));
  }
  return damages;
}

// Cuts a result to what it may name. The blocks that are bad beyond that are damage like any other.
void Shorten(idl::JobResult* result, std::vector<idl::Damage>* more) {
  std::vector<int64_t>& blocks = result->bad_blocks;
  for (size_t at = BlocksPerItem(); at < blocks.size(); at += BlocksPerItem()) {
    auto first = blocks.begin() + static_cast<ptrdiff_t>(at);
    auto last = first + static_cast<ptrdiff_t>(std::min(BlocksPerItem(), blocks.size() - at));
    idl::Damage& damage = more->emplace_back();
    damage.offset = result->offset;
    damage.blocks.assign(first, last);
  }
  blocks.resize(std::min(blocks.size(), BlocksPerItem()));
  for (idl::Mismatch& mismatch : result->mismatches) {
    mismatch.blocks.resize(std::min(mismatch.blocks.size(), BlocksPerItem()));
  }
  result->message.resize(std::min(result->message.size(), kMessageBytesMax));
}

size_t BlocksIn(const idl::Damage& damage) { return damage.blocks.size(); }

size_t BlocksIn(const idl::JobResult& result) {
  size_t count = result.bad_blocks.size();
  for (const idl::Mismatch& mismatch : result.mismatches) count += mismatch.blocks.size();
  return count;
}

// It may be told again: the server has not answered to just this.
bool MayWorkLater(const Status& s) { return IsConnectionError(s) || s.code() == ESTALE || s.code() == ECANCELED; }

// Hands `items` to `call`, as many at a time as a call carries. What the server refuses is refused for good and hinders
// nothing else.
template <typename Item, typename Call>
Status TellAll(const std::vector<Item>& items, std::string_view what, const Call& call) {
  for (size_t at = 0, end = 0; at < items.size(); at = end) {
    size_t blocks = 0;
    do {
      blocks += BlocksIn(items[end++]);
    } while (end < items.size() && end - at < kItemsPerCall && blocks + BlocksIn(items[end]) <= kBlocksPerCall);
    Status s = call({items.begin() + static_cast<ptrdiff_t>(at), items.begin() + static_cast<ptrdiff_t>(end)});
    if (s.ok()) continue;
    if (MayWorkLater(s)) return s;
    LogError("{} {} were not taken by the metadata server: {}", end - at, what, s.message());
  }
  return Status::Ok();
}

}  // namespace

std::unique_ptr<JobService> MakeJobService(const Address& meta, const Uuid& uuid, int64_t instance) {
  return std::make_unique<RpcJobs>(meta, uuid, instance);
}

// Backs off, and logs an error once while it stays the same.
class JobLink::Retry {
 public:
  void Worked() {
    backoff_ms_ = kBackoffMinMs;
    last_error_.clear();
  }
  int Failed(const Status& s) {  // how long to wait
    if (s.code() != ECANCELED && s.code() != ESTALE && s.message() != last_error_) {
      LogWarning("jobs of this target: {}; trying again", s.message());
      last_error_ = s.message();
    }
    return std::exchange(backoff_ms_, std::min(2 * backoff_ms_, kBackoffMaxMs));
  }

 private:
  int backoff_ms_ = kBackoffMinMs;
  std::string last_error_;
};

JobLink::JobLink(std::unique_ptr<JobService> service, JobReports* reports, JobLinkOptions options)
    : service_(std::move(service)),
      reports_(reports),
      options_(std::move(options)),
      list_thread_([this] { RunList(); }),
      report_thread_([this] { RunReports(); }) {
  pthread_setname_np(list_thread_.native_handle(), "jobs");
  pthread_setname_np(report_thread_.native_handle(), "reports");
}

JobLink::~JobLink() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  reports_->Stop();
  service_->Interrupt();
  list_thread_.join();
  report_thread_.join();
}

void JobLink::Known() {
  std::lock_guard lock(mutex_);
  known_ = true;
  changed_.notify_all();
}

bool JobLink::WaitKnown() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stop_ || known_; });
  return !stop_;
}

bool JobLink::WaitMs(int ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_; });
  return !stop_;
}

// The server does not know this target, or took it for another instance: a report of MetaLink sets that right.
void JobLink::Stale() {
  {
    std::lock_guard lock(mutex_);
    known_ = false;
  }
  options_.report_now();
}

void JobLink::RunList() {
  Retry retry;
  int64_t version = 0;
  int wait_ms = 0;
  while (WaitMs(wait_ms) && WaitKnown()) {
    Result<idl::Jobs> jobs = service_->NextJobs(version, kListWaitMs);
    if (!jobs.ok()) {
      wait_ms = retry.Failed(jobs.status());
      version = 0;  // another server may count anew
      if (jobs.status().code() == ESTALE) Stale();
      continue;
    }
    retry.Worked();
    wait_ms = kPauseMs;
    if (jobs->version == version) continue;
    version = jobs->version;
    options_.on_jobs(*jobs);
    options_.report_now();
  }
}

void JobLink::RunReports() {
  Retry retry;
  for (;;) {
    JobReports::Batch batch = reports_->Take();
    if (batch.empty() || !WaitKnown()) return;
    Status s = Tell(batch);
    if (s.ok()) {
      retry.Worked();
      continue;
    }
    reports_->GiveBack(std::move(batch));
    if (s.code() == ESTALE) Stale();
    if (!WaitMs(retry.Failed(s))) return;
  }
}

Status JobLink::Tell(const JobReports::Batch& batch) {
  auto tell_damage = [this](const std::vector<idl::Damage>& damages) { return service_->ReportDamage(damages); };
  uint64_t place_bytes = options_.chunk_bytes();
  if (!batch.damage.empty() && place_bytes > 0) {  // first: a result may be about it
    Status s = TellAll(ByPlace(batch.damage, place_bytes), "places with damaged blocks", tell_damage);
    if (!s.ok()) return s;
  }
  std::vector<idl::JobResult> results = batch.results;
  std::vector<idl::Damage> more;
  for (idl::JobResult& result : results) Shorten(&result, &more);
  Status s = TellAll(results, "results of jobs",
                     [this](const std::vector<idl::JobResult>& some) { return service_->FinishJobs(some); });
  if (!s.ok()) return s;
  return TellAll(more, "places with damaged blocks", tell_damage);  // last: a copy that is made has no damage before
}

}  // namespace weft::target
