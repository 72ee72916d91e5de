// SPDX-License-Identifier: MIT
#include "userland/meta/fsck_online.h"

#include <algorithm>
#include <cerrno>
#include <span>

#include "userland/base/log.h"
#include "userland/meta/fsck_run.h"

namespace weft {
namespace {

constexpr size_t kRepairsPerBatch = 256;  // clients wait meanwhile
constexpr int kVisitsPerLook = 1024;      // for whether the server stops

// A snapshot that ends when the server does.
class EndingReader final : public StoreReader {
 public:
  EndingReader(Engine* engine, std::unique_ptr<StoreReader> reader) : engine_(engine), reader_(std::move(reader)) {}

  Status Get(std::string_view key, std::string* value, bool* found) override { return reader_->Get(key, value, found); }

  Status Scan(std::string_view from, std::string_view to, const Visitor& visit) override {
    Status ended;
    Status status = reader_->Scan(from, to, [&](std::string_view key, std::string_view value) {
      if (++visits_ % kVisitsPerLook == 0 && engine_->events_stopped()) {
        ended = Error(ESHUTDOWN, "metadata server is shutting down");
        return false;
      }
      return visit(key, value);
    });
    return ended.ok() ? status : ended;
  }

 private:
  Engine* const engine_;
  const std::unique_ptr<StoreReader> reader_;
  uint64_t visits_ = 0;
};

}  // namespace

Result<idl::FsckReport> FsckOnline::Run(bool repair) {
  std::unique_lock lock(running_, std::try_to_lock);
  if (!lock.owns_lock()) return Error(EBUSY, "fsck is running already; wait until it has ended");
  FsckAccess access;
  access.online = true;
  access.snapshot = [this]() -> Result<std::unique_ptr<StoreReader>> {
    Result<std::unique_ptr<StoreReader>> reader = engine_->Run([](StateMachine& m) { return m.Snapshot(); });
    if (!reader.ok()) return reader;
    return std::unique_ptr<StoreReader>(std::make_unique<EndingReader>(engine_, *std::move(reader)));
  };
  access.repair = [this](const std::vector<FsckFinding*>& findings) -> Status {
    for (size_t at = 0; at < findings.size(); at += kRepairsPerBatch) {
      std::span part(findings.data() + at, std::min(kRepairsPerBatch, findings.size() - at));
      Status status = engine_->Run([part](StateMachine& m) {
        m.RepairFindings(part);
        return Status::Ok();
      });
      if (!status.ok()) return status;
    }
    return {};
  };
  Result<idl::FsckReport> report = FsckRun(access, repair);
  if (report.ok()) {
    LogInfo("fsck: {} inodes, {} extents, {} chunks; {} problems", report->inodes, report->extents, report->chunks,
            report->problems_total);
    for (const idl::FsckProblem& p : report->problems) {
      if (p.repaired) LogWarning("fsck: repaired: {}: {}", p.kind, p.message);
    }
  }
  return report;
}

}  // namespace weft
