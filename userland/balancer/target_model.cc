// SPDX-License-Identifier: MIT
#include "userland/balancer/target_model.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <functional>

#include "kmod/uapi/weft.h"

namespace weft::balancer {
namespace {

constexpr uint64_t kEwmaWeight = 8;  // as in kmod/target.c

int SizeClass(uint32_t bytes) { return std::bit_width(bytes); }

// Begin and end of each request at its target, from the records of their ends.
struct Span {
  uint64_t begin_ns;
  uint64_t end_ns;
  const weft_trace_done* done;
};

// How many requests each one met at its target, itself included: those that began before it and had not ended.
void AddWork(std::vector<Span>& spans, uint32_t servers, WorkTimes* work) {
  std::ranges::sort(spans, {}, &Span::begin_ns);
  std::vector<uint64_t> ends;  // a heap, the first on top
  for (const Span& span : spans) {
    while (!ends.empty() && ends.front() <= span.begin_ns) {
      std::ranges::pop_heap(ends, std::greater<>());
      ends.pop_back();
    }
    ends.push_back(span.end_ns);
    std::ranges::push_heap(ends, std::greater<>());
    double share = std::min(1.0, static_cast<double>(servers) / static_cast<double>(ends.size()));
    auto work_ns = static_cast<uint64_t>(static_cast<double>(span.done->latency_ns) * share);
    work->Add(span.done->op, span.done->bytes, std::max<uint64_t>(work_ns, 1));
  }
}

Status ApplyFactors(const ModelOptions& options, std::map<TargetKey, TargetProfile>* profiles) {
  for (const auto& [name, factor] : options.slow) {
    bool found = false;
    for (auto& [key, profile] : *profiles) {
      if (profile.name != name && std::to_string(key.second) != name) continue;
      profile.factor = factor;
      found = true;
    }
    if (found) continue;
    std::string names;
    for (const auto& [key, profile] : *profiles) names += (names.empty() ? "" : ", ") + profile.name;
    return Error(EINVAL, "the trace has no target '{}'; it has {}", name, names);
  }
  return {};
}

}  // namespace

uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// Of more than kSamplesMax each is kept with the same chance, the same ones each time.
void WorkTimes::Add(uint32_t op, uint32_t bytes, uint64_t work_ns) {
  Class key(op, SizeClass(bytes));
  std::vector<uint64_t>& samples = samples_[key];
  uint64_t seen = seen_[key]++;
  if (samples.size() < kSamplesMax) {
    samples.push_back(work_ns);
    return;
  }
  uint64_t slot = Mix(seen) % (seen + 1);
  if (slot < kSamplesMax) samples[slot] = work_ns;
}

uint64_t WorkTimes::Draw(uint32_t op, uint32_t bytes, uint64_t luck) const {
  const std::vector<uint64_t>* best = nullptr;
  int best_distance = 0;
  for (const auto& [key, samples] : samples_) {
    int distance = std::abs(key.second - SizeClass(bytes)) + (key.first == op ? 0 : 1000);
    if (best != nullptr && distance >= best_distance) continue;
    best = &samples;
    best_distance = distance;
  }
  return best == nullptr ? kUnknownNs : (*best)[luck % best->size()];
}

Result<std::map<TargetKey, TargetProfile>> ProfileTargets(const Trace& trace, const ModelOptions& options) {
  std::map<TargetKey, TargetProfile> profiles;
  for (const weft_trace_target& target : trace.targets) {
    TargetProfile& profile = profiles[{target.head.cluster, target.id}];
    profile.name = target.name;
    profile.weight = target.weight;
    profile.zone = target.zone;
    profile.flags = target.flags;
  }
  std::map<TargetKey, std::vector<Span>> spans;
  std::vector<Span> all;
  for (const weft_trace_done& done : trace.dones) {
    Span span = {BeginNs(done), done.head.time_ns, &done};
    profiles[{done.head.cluster, done.target}];
    if (done.error != 0) continue;
    spans[{done.head.cluster, done.target}].push_back(span);
    all.push_back(span);
  }
  for (const weft_trace_read& read : trace.reads) {
    for (int i = 0; i < read.nr; ++i) profiles[{read.head.cluster, read.targets[i]}];
  }
  for (auto& [key, of_target] : spans) AddWork(of_target, options.servers, &profiles[key].work);
  // One that the trace has no request of is as good as the others.
  WorkTimes pooled;
  AddWork(all, options.servers * static_cast<uint32_t>(std::max<size_t>(spans.size(), 1)), &pooled);
  for (auto& [key, profile] : profiles) {
    if (profile.name.empty()) profile.name = std::to_string(key.second);
    if (profile.work.empty()) profile.work = pooled;
  }
  if (Status s = ApplyFactors(options, &profiles); !s.ok()) return s;
  return profiles;
}

uint64_t TargetModel::Accept(uint64_t now_ns, uint32_t op, uint32_t bytes, uint64_t luck) {
  auto work_ns = static_cast<uint64_t>(static_cast<double>(profile_->work.Draw(op, bytes, luck)) * profile_->factor);
  uint64_t begin_ns = now_ns;
  if (free_at_.size() == servers_) {
    begin_ns = std::max(now_ns, free_at_.front());
    std::ranges::pop_heap(free_at_, std::greater<>());
    free_at_.pop_back();
  }
  free_at_.push_back(begin_ns + work_ns);
  std::ranges::push_heap(free_at_, std::greater<>());
  ++inflight_;
  busy_ns_ += work_ns;
  return begin_ns + work_ns;
}

void TargetModel::Complete(uint32_t op, uint32_t bytes, uint64_t latency_ns) {
  --inflight_;
  bytes_ += bytes;
  if (op != WEFT_OP_READ) {
    ++writes_;
    return;
  }
  ++reads_;
  if (ewma_latency_ns_ == 0) {
    ewma_latency_ns_ = latency_ns;
  } else {
    ewma_latency_ns_ = ewma_latency_ns_ - ewma_latency_ns_ / kEwmaWeight + latency_ns / kEwmaWeight;
  }
}

TargetStat TargetModel::Stat() const {
  TargetStat stat;
  stat.id = id_;
  stat.state = WEFT_TARGET_UP;
  stat.inflight = inflight_;
  stat.weight = profile_->weight;
  stat.zone = profile_->zone;
  stat.queue_depth = inflight_;
  stat.flags = profile_->flags & WEFT_TARGET_LOCAL;
  stat.ewma_latency_ns = ewma_latency_ns_;
  stat.requests = reads_ + writes_;
  stat.bytes = bytes_;
  return stat;
}

}  // namespace weft::balancer
