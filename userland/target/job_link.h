// SPDX-License-Identifier: MIT
//
// A target's second link to weft-meta, beside MetaLink: waits for lists of jobs, and tells results and damage.
// Two threads of its own with a connection each, as one of them is nearly always waiting for news. What could not
// be told is told again until the server has it; results of jobs that were called off meanwhile do no harm there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "thrift-gen/admin_types.h"
#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"
#include "userland/target/job_reports.h"

namespace weft::target {

// The service of weft-meta, as a seam. Errors as in userland/rpc/client.h; NextJobs may be called beside the others.
class JobService {
 public:
  virtual ~JobService() = default;
  virtual Result<idl::Jobs> NextJobs(int64_t version, int wait_ms) = 0;
  virtual Status FinishJobs(const std::vector<idl::JobResult>& results) = 0;
  virtual Status ReportDamage(const std::vector<idl::Damage>& damages) = 0;
  virtual void Interrupt() = 0;  // any thread: ends running calls
};

std::unique_ptr<JobService> MakeJobService(const Address& meta, const Uuid& uuid, int64_t instance);

struct JobLinkOptions {
  std::function<void(const idl::Jobs& jobs)> on_jobs;  // a new list; from the link's thread
  std::function<void()> report_now;                    // the server may have orders: MetaLink::ReportNow
  std::function<uint64_t()> chunk_bytes;               // of the label; 0: in no pool
};

class JobLink {
 public:
  // reports: outlives this; stopped by the destructor.
  JobLink(std::unique_ptr<JobService> service, JobReports* reports, JobLinkOptions options);
  ~JobLink();
  JobLink(const JobLink&) = delete;
  JobLink& operator=(const JobLink&) = delete;

  // The server has answered a registration or a report: it knows this target. Any thread.
  void Known();

 private:
  class Retry;  // when to try again

  void RunList();
  void RunReports();
  Status Tell(const JobReports::Batch& batch);
  bool WaitKnown();     // false: stop
  bool WaitMs(int ms);  // false: stop
  void Stale();

  const std::unique_ptr<JobService> service_;
  JobReports* const reports_;
  const JobLinkOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool known_ = false;       // under mutex_
  bool stop_ = false;        // under mutex_
  std::thread list_thread_;  // last: use the others
  std::thread report_thread_;
};

}  // namespace weft::target
