// SPDX-License-Identifier: MIT
#include "userland/ctl/fsck_view.h"

#include <algorithm>
#include <cerrno>

#include <nlohmann/json.hpp>

namespace weft::ctl {
namespace {

struct Counts {
  int64_t repaired = 0;
  int64_t repairable = 0;  // and not repaired
  int64_t left = 0;
};

// A report lists some of its problems only, but counts all of them.
Counts Count(const idl::FsckReport& report) {
  Counts counts;
  for (const idl::FsckProblem& problem : report.problems) {
    if (problem.repaired) ++counts.repaired;
    if (!problem.repaired && problem.repairable) ++counts.repairable;
  }
  counts.repaired = std::max(counts.repaired, report.repaired_total);
  counts.left =
      std::max<int64_t>(report.problems_total, static_cast<int64_t>(report.problems.size())) - counts.repaired;
  return counts;
}

std::string_view Outcome(const idl::FsckProblem& problem) {
  return problem.repaired ? "repaired" : problem.repairable ? "can be repaired" : "NOT REPAIRABLE";
}

}  // namespace

std::string FsckText(const idl::FsckReport& report) {
  std::string text;
  for (const idl::FsckProblem& problem : report.problems) {
    text += fmt::format("{}: {} ({})\n", problem.kind, problem.message, Outcome(problem));
  }
  int64_t unlisted = report.problems_total - static_cast<int64_t>(report.problems.size());
  if (unlisted > 0) text += fmt::format("... and {} more problems\n", unlisted);
  Counts counts = Count(report);
  std::string verdict = counts.left > 0       ? fmt::format("problems: {}", counts.left)
                        : counts.repaired > 0 ? "clean now"
                                              : "clean";
  if (counts.repaired > 0) verdict += fmt::format(", {} repaired", counts.repaired);
  return text +
         fmt::format("{} inodes, {} extents, {} chunks: {}\n", report.inodes, report.extents, report.chunks, verdict);
}

nlohmann::ordered_json FsckJson(const idl::FsckReport& report) {
  auto problems = nlohmann::ordered_json::array();
  for (const idl::FsckProblem& p : report.problems) {
    problems.push_back({{"kind", p.kind},
                        {"message", p.message},
                        {"repaired", p.repaired},
                        {"repairable", p.repairable},
                        {"ino", p.ino},
                        {"path", p.path},
                        {"chunk", p.chunk}});
  }
  return {{"problems", problems},
          {"problems_total", report.problems_total},
          {"repaired_total", Count(report).repaired},
          {"inodes", report.inodes},
          {"extents", report.extents},
          {"chunks", report.chunks}};
}

Status FsckVerdict(const idl::FsckReport& report) {
  Counts counts = Count(report);
  if (counts.left == 0) return {};
  std::string remedy = counts.repairable > 0 ? fmt::format("; {} can be repaired with --repair", counts.repairable)
                                             : "; restore the files that are named from a good copy";
  return Error(EUCLEAN, "problems that are left: {}{}", counts.left, remedy);
}

}  // namespace weft::ctl
