// SPDX-License-Identifier: MIT
#include "userland/balancer/policy_runner.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "kmod/uapi/weft.h"
#include "userland/balancer/choice.h"
#include "userland/balancer/policies.h"
#include "userland/balancer/policy_object.h"

namespace weft::balancer {
namespace {

// The module's round robin, on one CPU.
class Turn {
 public:
  uint32_t Next(uint32_t choices) { return ++turn_ % choices; }

 private:
  uint32_t turn_ = 0;
};

class BuiltinRunner : public PolicyRunner {
 public:
  std::string name() const override { return std::string(kBuiltinPolicy); }
  Result<uint32_t> PickRead(const weft_trace_read& read) override { return read.nr < 2 ? 0 : turn_.Next(read.nr); }
  Result<uint32_t> PickPlace(const weft_trace_place& place) override { return place.nr < 2 ? 0 : turn_.Next(place.nr); }
  Status Done(const weft_trace_done&) override { return {}; }

 private:
  Turn turn_;
};

// An argument of a callback, in the program's memory: a pointer to the struct, which is all of its context.
class Argument {
 public:
  Argument(const ObjectStruct* layout, VmMemory* memory) : layout_(layout), bytes_(layout->bytes) {
    uint64_t address = memory->Map(bytes_, VmMemory::kRead);
    context_.resize(sizeof address);
    memcpy(context_.data(), &address, sizeof address);
    context_address_ = memory->Map(context_, VmMemory::kRead);
  }
  void Put(std::string_view field, uint64_t value) { layout_->Put(bytes_, field, value); }
  std::span<std::byte> bytes() { return bytes_; }
  const ObjectStruct& layout() const { return *layout_; }
  uint64_t context() const { return context_address_; }

 private:
  const ObjectStruct* const layout_;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> context_;
  uint64_t context_address_;
};

class BpfRunner : public PolicyRunner, private VmHost {
 public:
  BpfRunner(std::unique_ptr<PolicyObject> object, PolicyWorld* world)
      : object_(std::move(object)),
        world_(world),
        vm_(&object_->program, &object_->memory, this),
        io_(&object_->io, &object_->memory),
        place_(&object_->place, &object_->memory),
        done_(&object_->done, &object_->memory) {}

  std::string name() const override { return object_->name; }
  uint64_t faults() const override { return faults_; }

  Result<uint32_t> PickRead(const weft_trace_read& read) override {
    if (read.nr < 2) return 0;
    if (!object_->pick_read || detached()) return turn_.Next(read.nr);
    io_.Put("chunk", read.chunk);
    io_.Put("offset", read.offset);
    io_.Put("length", read.length);
    io_.Put("op", WEFT_OP_READ);
    io_.Put("nr", read.nr);
    io_.Put("cluster", read.head.cluster);
    for (uint32_t i = 0; i < WEFT_TRACE_COPIES; ++i) {
      object_->io.PutElement(io_.bytes(), "targets", i, sizeof(uint32_t), i < read.nr ? read.targets[i] : 0);
    }
    return Pick("pick_read", *object_->pick_read, io_.context(), read.head.cluster, read.nr);
  }

  Result<uint32_t> PickPlace(const weft_trace_place& place) override {
    if (place.nr < 2) return 0;
    if (!object_->pick_place || detached()) return turn_.Next(place.nr);
    place_.Put("ino", place.ino);
    place_.Put("file_block", place.file_block);
    place_.Put("blocks", place.blocks);
    place_.Put("nr", place.nr);
    place_.Put("cluster", place.head.cluster);
    PutGrants(place);
    return Pick("pick_place", *object_->pick_place, place_.context(), place.head.cluster, place.nr);
  }

  Status Done(const weft_trace_done& done) override {
    if (!object_->io_done || detached()) return {};
    done_.Put("target", done.target);
    done_.Put("op", done.op);
    done_.Put("bytes", done.bytes);
    done_.Put("error", static_cast<uint64_t>(int64_t{done.error}));
    done_.Put("latency_ns", done.latency_ns);
    done_.Put("cluster", done.head.cluster);
    cluster_ = done.head.cluster;
    Result<uint64_t> ran = vm_.Run(*object_->io_done, done_.context());
    return ran.ok() ? Status() : ran.status().Annotate("balancer policy " + name() + ": io_done");
  }

 private:
  bool detached() const { return faults_ >= kPolicyFaultsMax; }

  void PutGrants(const weft_trace_place& place) {
    auto field = object_->place.fields.find("grants");
    uint32_t stride = object_->grant.bytes;
    if (field == object_->place.fields.end() || stride == 0) return;
    for (uint32_t i = 0; i < WEFT_TRACE_GRANTS; ++i) {
      if (uint64_t{i + 1} * stride > field->second.bytes) break;
      std::span<std::byte> grant = place_.bytes().subspan(field->second.offset + size_t{i} * stride, stride);
      bool offered = i < place.nr;
      const weft_trace_grant& from = place.grants[i];
      object_->grant.Put(grant, "chunk", offered ? from.chunk : 0);
      object_->grant.Put(grant, "blocks", offered ? from.blocks : 0);
      object_->grant.Put(grant, "nr_targets", offered ? from.nr_targets : 0);
      for (uint32_t t = 0; t < WEFT_TRACE_COPIES; ++t) {
        object_->grant.PutElement(grant, "targets", t, sizeof(uint32_t), offered ? from.targets[t] : 0);
      }
    }
  }

  Result<uint32_t> Pick(const char* callback, size_t entry, uint64_t context, uint32_t cluster, uint32_t choices) {
    cluster_ = cluster;
    Result<uint64_t> answer = vm_.Run(entry, context);
    if (!answer.ok()) return answer.status().Annotate("balancer policy " + name() + ": " + callback);
    auto choice = static_cast<int32_t>(*answer);
    if (choice >= 0 && static_cast<uint32_t>(choice) < choices) return static_cast<uint32_t>(choice);
    ++faults_;
    return turn_.Next(choices);
  }

  uint64_t NowNs() override { return world_->NowNs(); }
  uint32_t Random() override { return world_->Random(); }
  int TargetStat(uint32_t id, std::span<std::byte> to) override {
    balancer::TargetStat stat;
    if (!world_->Stat(cluster_, id, &stat)) return -ENOENT;
    std::ranges::fill(to, std::byte{0});
    const ObjectStruct& layout = object_->stat;
    layout.Put(to, "id", stat.id);
    layout.Put(to, "state", stat.state);
    layout.Put(to, "inflight", stat.inflight);
    layout.Put(to, "weight", stat.weight);
    layout.Put(to, "zone", stat.zone);
    layout.Put(to, "queue_depth", stat.queue_depth);
    layout.Put(to, "load", stat.load);
    layout.Put(to, "flags", stat.flags);
    layout.Put(to, "device_latency_us", stat.device_latency_us);
    layout.Put(to, "report_age_ms", stat.report_age_ms);
    layout.Put(to, "paths_usable", stat.paths_usable);
    layout.Put(to, "paths", stat.paths);
    layout.Put(to, "ewma_latency_ns", stat.ewma_latency_ns);
    layout.Put(to, "requests", stat.requests);
    layout.Put(to, "bytes", stat.bytes);
    layout.Put(to, "errors", stat.errors);
    return 0;
  }

  const std::unique_ptr<PolicyObject> object_;
  PolicyWorld* const world_;
  Vm vm_;
  Argument io_;
  Argument place_;
  Argument done_;
  Turn turn_;
  uint32_t cluster_ = 0;  // that is asked about
  uint64_t faults_ = 0;
};

}  // namespace

std::unique_ptr<PolicyRunner> MakeBuiltinRunner() { return std::make_unique<BuiltinRunner>(); }

Result<std::unique_ptr<PolicyRunner>> MakeBpfRunner(std::span<const std::byte> bytes, const std::string& name,
                                                    PolicyWorld* world) {
  Result<std::unique_ptr<PolicyObject>> object = LoadPolicyObject(bytes, name);
  if (!object.ok()) return object.status();
  return std::unique_ptr<PolicyRunner>(std::make_unique<BpfRunner>(*std::move(object), world));
}

Result<std::unique_ptr<PolicyRunner>> MakeRunner(const std::string& policy, PolicyWorld* world) {
  Result<Choice> choice = MakeChoice(policy);
  if (!choice.ok()) return choice.status();
  if (choice->policy == kBuiltinPolicy) return MakeBuiltinRunner();
  if (!choice->policy.empty()) return MakeBpfRunner(FindPolicy(choice->policy)->object(), policy, world);
  return MakeBpfRunner(choice->object, policy, world);
}

}  // namespace weft::balancer
