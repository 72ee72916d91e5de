// SPDX-License-Identifier: MIT
#include "userland/balancer/balancer.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace weft::balancer {
namespace {

// The kernel's side as weft.ko and bpffs keep it: links, which of them serves, which is pinned.
struct FakeKernel {
  struct Attachment {
    std::string policy;  // empty: detached
  };

  explicit FakeKernel(const std::string& root) : dir(root + "/balancer") {
    std::filesystem::create_directories(dir);
    Publish();
  }
  void Publish() const {
    std::ofstream(dir + "/policy") << (active ? active->policy : std::string(kBuiltinPolicy)) << "\n";
    std::ofstream(dir + "/picks") << "7\n";
    std::ofstream(dir + "/faults") << faults << "\n";
  }
  void Detach(const std::shared_ptr<Attachment>& link) {
    link->policy.clear();
    if (active == link) active.reset();
    Publish();
  }

  std::string dir;
  std::shared_ptr<Attachment> active;
  std::shared_ptr<Attachment> pinned;
  int faults = 0;
  int handles = 0;    // open programs and links
  int swaps = 0;      // by Update
  Status load_error;  // what Load answers
  Status lock_error;
  Status pin_error;
};

class FakeProgram : public Program {
 public:
  FakeProgram(FakeKernel* kernel, std::string name) : name(std::move(name)), kernel_(kernel) { ++kernel_->handles; }
  ~FakeProgram() override { --kernel_->handles; }
  const std::string name;

 private:
  FakeKernel* kernel_;
};

class FakeLink : public Link {
 public:
  FakeLink(FakeKernel* kernel, std::shared_ptr<FakeKernel::Attachment> to) : kernel_(kernel), to_(std::move(to)) {
    ++kernel_->handles;
  }
  ~FakeLink() override {
    --kernel_->handles;
    if (kernel_->pinned != to_) kernel_->Detach(to_);  // nobody holds it any more
  }
  Status Update(const Program& program) override {
    if (to_->policy.empty()) return Status::Errno(ENOLINK, "fake");
    to_->policy = static_cast<const FakeProgram&>(program).name;
    ++kernel_->swaps;
    kernel_->Publish();
    return {};
  }
  Status Detach() override {
    kernel_->Detach(to_);
    return {};
  }
  Status Pin() override {
    if (!kernel_->pin_error.ok()) return kernel_->pin_error;
    kernel_->pinned = to_;
    return {};
  }

 private:
  FakeKernel* kernel_;
  std::shared_ptr<FakeKernel::Attachment> to_;
};

class FakeHost : public BpfHost {
 public:
  explicit FakeHost(FakeKernel* kernel) : kernel_(kernel) {}
  Status Lock() override { return kernel_->lock_error; }
  Result<std::unique_ptr<Program>> Load(const Policy& policy) override { return Make(std::string(policy.name)); }
  Result<std::unique_ptr<Program>> LoadFile(const std::string& path) override {
    return Make(std::filesystem::path(path).stem().stem());
  }
  Result<std::unique_ptr<Link>> Attach(const Program& program) override {
    if (kernel_->active) return Status::Errno(EBUSY, "fake");
    kernel_->active = std::make_shared<FakeKernel::Attachment>(static_cast<const FakeProgram&>(program).name);
    kernel_->Publish();
    return std::unique_ptr<Link>(std::make_unique<FakeLink>(kernel_, kernel_->active));
  }
  Result<std::unique_ptr<Link>> OpenPinned() override {
    if (!kernel_->pinned) return Status::Errno(ENOENT, "fake");
    return std::unique_ptr<Link>(std::make_unique<FakeLink>(kernel_, kernel_->pinned));
  }
  Status Unpin() override {
    kernel_->pinned.reset();
    return {};
  }

 private:
  Result<std::unique_ptr<Program>> Make(std::string name) {
    if (!kernel_->load_error.ok()) return kernel_->load_error;
    return std::unique_ptr<Program>(std::make_unique<FakeProgram>(kernel_, std::move(name)));
  }

  FakeKernel* kernel_;
};

class BalancerTest : public testing::Test {
 protected:
  ~BalancerTest() override {
    EXPECT_EQ(kernel.handles, 0);
    std::filesystem::remove_all(root);
  }

  std::string root =
      testing::TempDir() + "balancer_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  FakeKernel kernel{root};
  FakeHost host{&kernel};
  Sysfs sysfs{root};
  Balancer balancer{host, sysfs};
};

TEST_F(BalancerTest, AttachesAndPins) {
  Result<Change> change = balancer.Set("p2c_latency");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->before, "round_robin");
  EXPECT_EQ(change->after, "p2c_latency");
  ASSERT_TRUE(kernel.pinned);
  EXPECT_EQ(kernel.pinned, kernel.active);
}

TEST_F(BalancerTest, SwapsAnAttachedPolicyInOneStep) {
  ASSERT_TRUE(balancer.Set("./mine.bpf.o").ok());
  auto link = kernel.active;
  Result<Change> change = balancer.Set("p2c_latency");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->before, "mine");
  EXPECT_EQ(change->after, "p2c_latency");
  EXPECT_EQ(kernel.active, link) << "the same link, never detached";
  EXPECT_EQ(kernel.swaps, 1);
}

TEST_F(BalancerTest, RoundRobinDetaches) {
  ASSERT_TRUE(balancer.Set("p2c_latency").ok());
  Result<Change> change = balancer.Set("round_robin");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->after, "round_robin");
  EXPECT_FALSE(kernel.active);
  EXPECT_FALSE(kernel.pinned);
  EXPECT_TRUE(balancer.Set("round_robin").ok()) << "again: nothing to do";
}

TEST_F(BalancerTest, ReplacesTheDeadLinkOfAFaultyPolicy) {
  ASSERT_TRUE(balancer.Set("./garbage.bpf.o").ok());
  auto dead = kernel.active;
  kernel.Detach(dead);  // as the module does after too many faults
  ASSERT_EQ(kernel.pinned, dead);
  Result<Change> change = balancer.Set("p2c_latency");
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->after, "p2c_latency");
  EXPECT_NE(kernel.pinned, dead);
  EXPECT_EQ(kernel.pinned, kernel.active);
}

TEST_F(BalancerTest, RoundRobinClearsADeadLink) {
  ASSERT_TRUE(balancer.Set("./garbage.bpf.o").ok());
  kernel.Detach(kernel.active);
  ASSERT_TRUE(balancer.Set("round_robin").ok());
  EXPECT_FALSE(kernel.pinned);
}

TEST_F(BalancerTest, LeavesOtherPeoplesPolicyAlone) {
  kernel.active = std::make_shared<FakeKernel::Attachment>("theirs");
  kernel.Publish();
  EXPECT_EQ(balancer.Set("p2c_latency").status().code(), EBUSY);
  EXPECT_EQ(balancer.Set("round_robin").status().code(), EBUSY);
  EXPECT_EQ(kernel.active->policy, "theirs");
}

TEST_F(BalancerTest, APolicyThatCannotBePinnedIsNotLeftAttached) {
  kernel.pin_error = Status::Errno(ENOSPC, "fake");
  EXPECT_EQ(balancer.Set("p2c_latency").status().code(), ENOSPC);
  EXPECT_FALSE(kernel.active);
}

TEST_F(BalancerTest, ARefusedPolicyLeavesTheOldOneInForce) {
  ASSERT_TRUE(balancer.Set("./mine.bpf.o").ok());
  kernel.load_error = Status(EINVAL, "R1 invalid mem access");
  Result<Change> change = balancer.Set("p2c_latency");
  EXPECT_EQ(change.status().message(), "R1 invalid mem access");
  EXPECT_EQ(kernel.active->policy, "mine");
}

TEST_F(BalancerTest, ErrorsNameTheThing) {
  Status unknown = balancer.Set("fastest").status();
  EXPECT_EQ(unknown.code(), ENOENT);
  EXPECT_NE(unknown.message().find("round_robin, p2c_latency"), std::string::npos) << unknown.message();
  kernel.lock_error = Status(EPERM, "no bpffs");
  EXPECT_EQ(balancer.Set("p2c_latency").status().message(), "no bpffs");
  std::filesystem::remove_all(root);
  Status unloaded = balancer.Set("p2c_latency").status();
  EXPECT_EQ(unloaded.code(), ENODEV);
  EXPECT_NE(unloaded.message().find("modprobe weft"), std::string::npos) << unloaded.message();
}

TEST(PoliciesTest, NamesFitTheKernelAndObjectsAreElf) {
  for (const Policy& policy : ShippedPolicies()) {
    EXPECT_LT(policy.name.size(), 16u) << policy.name;
    EXPECT_FALSE(policy.summary.empty());
    if (policy.object == nullptr) continue;
    auto bytes = policy.object();
    ASSERT_GT(bytes.size(), 4u);
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(bytes.data()), 4), "\177ELF");
  }
  EXPECT_EQ(FindPolicy(kBuiltinPolicy)->object, nullptr);
  EXPECT_EQ(FindPolicy("nothing"), nullptr);
}

}  // namespace
}  // namespace weft::balancer
