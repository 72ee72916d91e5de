// SPDX-License-Identifier: MIT
#include "userland/balancer/simulator.h"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <queue>
#include <tuple>

#include "kmod/uapi/weft.h"

namespace weft::balancer {
namespace {

// A request at a target.
struct Request {
  uint64_t done_ns;
  uint64_t number;  // of those that end together the one that began first ends first
  uint64_t begin_ns;
  TargetModel* target;
  uint32_t cluster;
  uint32_t target_id;
  uint32_t op;
  uint32_t bytes;
  bool operator>(const Request& other) const {
    return std::tie(done_ns, number) > std::tie(other.done_ns, other.number);
  }
};

// One replay under one policy.
class Replay : public PolicyWorld {
 public:
  Replay(const Trace& trace, const SimulationOptions& options, const std::map<TargetKey, TargetProfile>& profiles)
      : trace_(trace), options_(options), random_(options.model.seed) {
    for (const auto& [key, profile] : profiles) {
      targets_.emplace(key, TargetModel(&profile, key.second, options.model.servers));
      placed_[key] = 0;
    }
  }

  Status Run(const std::vector<Simulator::Arrival>& arrivals, PolicyRunner* policy) {
    policy_ = policy;
    begin_ns_ = now_ns_ = arrivals.front().at_ns;
    for (const Simulator::Arrival& arrival : arrivals) {
      if (Status s = AwaitTurn(arrival); !s.ok()) return s;
      if (Status s = Arrive(arrival); !s.ok()) return s;
    }
    while (!requests_.empty()) {
      if (Status s = CompleteNext(); !s.ok()) return s;
    }
    return {};
  }

  SimulationResult Summary() {
    SimulationResult result;
    result.policy = policy_->name();
    result.faults = policy_->faults();
    result.reads = latencies_.size();
    result.places = places_;
    double elapsed_ns = static_cast<double>(std::max<uint64_t>(now_ns_ - begin_ns_, 1));
    result.reads_per_s = static_cast<double>(latencies_.size()) * 1e9 / elapsed_ns;
    std::ranges::sort(latencies_);
    double sum = 0;
    for (uint64_t latency : latencies_) sum += static_cast<double>(latency);
    result.mean_ns = static_cast<uint64_t>(sum / static_cast<double>(latencies_.size()));
    result.p50_ns = Percentile(50);
    result.p90_ns = Percentile(90);
    result.p99_ns = Percentile(99);
    result.max_ns = latencies_.back();
    for (const auto& [key, target] : targets_) {
      double busy = static_cast<double>(target.busy_ns()) / elapsed_ns / options_.model.servers;
      result.targets.push_back({target.profile().name, target.reads(), placed_[key], busy});
    }
    return result;
  }

 private:
  uint64_t NowNs() override { return now_ns_; }
  uint32_t Random() override { return static_cast<uint32_t>(Mix(random_++)); }
  bool Stat(uint32_t cluster, uint32_t target, TargetStat* stat) override {
    auto it = targets_.find({cluster, target});
    if (it == targets_.end()) return false;
    *stat = it->second.Stat();
    return true;
  }

  // The smallest latency that `percent` of the reads do not exceed.
  uint64_t Percentile(uint64_t percent) const {
    size_t rank = (latencies_.size() * percent + 99) / 100;
    return latencies_[std::max<size_t>(rank, 1) - 1];
  }

  // Time goes on until the arrival may come.
  Status AwaitTurn(const Simulator::Arrival& arrival) {
    uint64_t at_ns = options_.back_to_back ? now_ns_ : std::max(arrival.at_ns, now_ns_);
    while (!requests_.empty() && (requests_.top().done_ns <= at_ns || MustWait(arrival.kind))) {
      if (Status s = CompleteNext(); !s.ok()) return s;
    }
    now_ns_ = std::max(now_ns_, at_ns);
    return {};
  }

  // For one that is in flight.
  bool MustWait(Simulator::Arrival::Kind kind) const {
    if (kind == Simulator::Arrival::kPlace) return false;
    if (options_.back_to_back) return requests_.size() >= options_.depth;
    return kind == Simulator::Arrival::kRead && reads_ >= options_.depth;
  }

  Status Arrive(const Simulator::Arrival& arrival) {
    switch (arrival.kind) {
      case Simulator::Arrival::kRead:
        return StartRead(trace_.reads[arrival.index]);
      case Simulator::Arrival::kWrite: {
        const weft_trace_done& done = trace_.dones[arrival.index];
        Submit(done.head.cluster, done.target, done.op, done.bytes);
        return {};
      }
      default:
        return Place(trace_.places[arrival.index]);
    }
  }

  Status StartRead(const weft_trace_read& read) {
    Result<uint32_t> choice = policy_->PickRead(read);
    if (!choice.ok()) return choice.status();
    ++reads_;
    Submit(read.head.cluster, read.targets[*choice], WEFT_OP_READ, read.length);
    return {};
  }

  Status Place(const weft_trace_place& place) {
    Result<uint32_t> choice = policy_->PickPlace(place);
    if (!choice.ok()) return choice.status();
    ++places_;
    const weft_trace_grant& grant = place.grants[*choice];
    for (uint32_t i = 0; i < grant.nr_targets; ++i) {
      auto it = placed_.find({place.head.cluster, grant.targets[i]});
      if (it != placed_.end()) it->second += place.blocks;
    }
    return {};
  }

  void Submit(uint32_t cluster, uint32_t target, uint32_t op, uint32_t bytes) {
    TargetModel& model = targets_.at({cluster, target});
    uint64_t luck = Mix(options_.model.seed ^ Mix(number_));
    uint64_t done_ns = model.Accept(now_ns_, op, bytes, luck);
    requests_.push({.done_ns = done_ns,
                    .number = number_++,
                    .begin_ns = now_ns_,
                    .target = &model,
                    .cluster = cluster,
                    .target_id = target,
                    .op = op,
                    .bytes = bytes});
  }

  Status CompleteNext() {
    Request request = requests_.top();
    requests_.pop();
    now_ns_ = std::max(now_ns_, request.done_ns);
    uint64_t latency_ns = now_ns_ - request.begin_ns;
    request.target->Complete(request.op, request.bytes, latency_ns);
    if (request.op == WEFT_OP_READ) {
      --reads_;
      latencies_.push_back(latency_ns);
    }
    weft_trace_done done = {};
    done.head.cluster = request.cluster;
    done.head.time_ns = now_ns_;
    done.target = request.target_id;
    done.op = request.op;
    done.bytes = request.bytes;
    done.latency_ns = latency_ns;
    return policy_->Done(done);
  }

  const Trace& trace_;
  const SimulationOptions& options_;
  PolicyRunner* policy_ = nullptr;
  std::map<TargetKey, TargetModel> targets_;
  std::map<TargetKey, uint64_t> placed_;
  std::priority_queue<Request, std::vector<Request>, std::greater<>> requests_;
  uint64_t begin_ns_ = 0;
  uint64_t now_ns_ = 0;
  uint64_t random_;
  uint64_t number_ = 0;
  uint64_t reads_ = 0;  // in flight
  uint64_t places_ = 0;
  std::vector<uint64_t> latencies_;
};

}  // namespace

Result<std::unique_ptr<Simulator>> Simulator::Create(const Trace* trace, const SimulationOptions& options) {
  if (trace->reads.empty()) {
    return Error(EINVAL, "the trace has no reads that a policy could balance; record one while the host reads");
  }
  std::unique_ptr<Simulator> simulator(new Simulator(trace, options));
  Result<std::map<TargetKey, TargetProfile>> profiles = ProfileTargets(*trace, options.model);
  if (!profiles.ok()) return profiles.status();
  simulator->profiles_ = *std::move(profiles);
  simulator->CollectArrivals();
  if (options.depth == 0) simulator->options_.depth = simulator->BusiestDepth();
  return simulator;
}

void Simulator::CollectArrivals() {
  for (size_t i = 0; i < trace_->reads.size(); ++i) {
    arrivals_.push_back({Arrival::kRead, trace_->reads[i].head.time_ns, i});
  }
  for (size_t i = 0; i < trace_->places.size(); ++i) {
    arrivals_.push_back({Arrival::kPlace, trace_->places[i].head.time_ns, i});
  }
  for (size_t i = 0; i < trace_->dones.size(); ++i) {
    const weft_trace_done& done = trace_->dones[i];
    if (done.op != WEFT_OP_READ && done.error == 0) arrivals_.push_back({Arrival::kWrite, BeginNs(done), i});
  }
  std::ranges::stable_sort(arrivals_, {}, &Arrival::at_ns);
}

uint32_t Simulator::BusiestDepth() const {
  std::vector<std::pair<uint64_t, int>> changes;
  for (const weft_trace_done& done : trace_->dones) {
    if (done.op != WEFT_OP_READ && !options_.back_to_back) continue;
    changes.emplace_back(BeginNs(done), 1);
    changes.emplace_back(done.head.time_ns, -1);
  }
  std::ranges::sort(changes);  // of the same moment the ends come first
  int depth = 0;
  int most = 1;
  for (const auto& [at_ns, change] : changes) most = std::max(most, depth += change);
  return static_cast<uint32_t>(most);
}

Result<SimulationResult> Simulator::Run(const std::string& policy) const {
  return Run([&](PolicyWorld* world) { return MakeRunner(policy, world); });
}

Result<SimulationResult> Simulator::Run(const RunnerMaker& make_runner) const {
  Replay replay(*trace_, options_, profiles_);
  Result<std::unique_ptr<PolicyRunner>> runner = make_runner(&replay);
  if (!runner.ok()) return runner.status();
  if (Status s = replay.Run(arrivals_, runner->get()); !s.ok()) return s;
  return replay.Summary();
}

}  // namespace weft::balancer
