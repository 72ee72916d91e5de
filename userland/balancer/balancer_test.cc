// SPDX-License-Identifier: MIT
#include "userland/balancer/balancer.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "userland/balancer/policies.h"

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
  Result<std::unique_ptr<Program>> Load(std::span<const std::byte> object, const std::string& name) override {
    EXPECT_FALSE(object.empty());
    if (!kernel_->load_error.ok()) return kernel_->load_error;
    std::string policy = std::filesystem::path(name).stem().stem();
    return std::unique_ptr<Program>(std::make_unique<FakeProgram>(kernel_, policy));
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
  // The path of an object of the user's own; its name is the file's.
  std::string Object(const std::string& name) const {
    std::string path = root + "/" + name + ".bpf.o";
    std::ofstream(path) << "\177ELF of " << name;
    return path;
  }
  // What a reboot leaves: the files.
  void Reboot() {
    kernel.pinned.reset();
    kernel.active.reset();
    kernel.Publish();
  }

  Sysfs sysfs{root};
  ChoiceStore store{root + "/choice"};
  Balancer balancer{host, sysfs, store};
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
  ASSERT_TRUE(balancer.Set(Object("mine")).ok());
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
  ASSERT_TRUE(balancer.Set(Object("garbage")).ok());
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
  ASSERT_TRUE(balancer.Set(Object("garbage")).ok());
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
  ASSERT_TRUE(balancer.Set(Object("mine")).ok());
  kernel.load_error = Status(EINVAL, "R1 invalid mem access");
  Result<Change> change = balancer.Set("p2c_latency");
  EXPECT_EQ(change.status().message(), "R1 invalid mem access");
  EXPECT_EQ(kernel.active->policy, "mine");
}

TEST_F(BalancerTest, ErrorsNameTheThing) {
  Status unknown = balancer.Set("fastest").status();
  EXPECT_EQ(unknown.code(), ENOENT);
  EXPECT_NE(unknown.message().find("round_robin, least_inflight, p2c_latency"), std::string::npos) << unknown.message();
  Status missing = balancer.Set("./nothing.bpf.o").status();
  EXPECT_EQ(missing.message(), "balancer policy: ./nothing.bpf.o: No such file or directory");
  kernel.lock_error = Status(EPERM, "no bpffs");
  EXPECT_EQ(balancer.Set("p2c_latency").status().message(), "no bpffs");
  std::filesystem::remove_all(root);
  Status unloaded = balancer.Set("p2c_latency").status();
  EXPECT_EQ(unloaded.code(), ENODEV);
  EXPECT_NE(unloaded.message().find("modprobe weft"), std::string::npos) << unloaded.message();
}

TEST_F(BalancerTest, RestoresWhatWasChosen) {
  Result<Change> never = balancer.Restore();
  ASSERT_TRUE(never.ok()) << never.status().message();
  EXPECT_EQ(never->after, never->before) << "nothing was chosen";
  ASSERT_TRUE(balancer.Set("p2c_latency").ok());
  Reboot();
  Result<Change> change = balancer.Restore();
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->before, "round_robin");
  EXPECT_EQ(change->after, "p2c_latency");
  EXPECT_EQ(kernel.pinned, kernel.active);
  EXPECT_EQ(balancer.Restore()->before, "p2c_latency") << "it is in force already";
}

TEST_F(BalancerTest, RestoresAnObjectFromItsCopy) {
  std::string path = Object("mine");
  ASSERT_TRUE(balancer.Set(path).ok());
  std::filesystem::remove(path);
  Reboot();
  Result<Change> change = balancer.Restore();
  ASSERT_TRUE(change.ok()) << change.status().message();
  EXPECT_EQ(change->after, "mine");
}

TEST_F(BalancerTest, TheBuiltinIsAChoiceToo) {
  ASSERT_TRUE(balancer.Set("p2c_latency").ok());
  ASSERT_TRUE(balancer.Set("round_robin").ok());
  Reboot();
  ASSERT_TRUE(balancer.Restore().ok());
  EXPECT_FALSE(kernel.active);
}

TEST_F(BalancerTest, DoesNotRestoreAPolicyThatWasDetached) {
  ASSERT_TRUE(balancer.Set(Object("garbage")).ok());
  kernel.Detach(kernel.active);
  Status status = balancer.Restore().status();
  EXPECT_EQ(status.code(), EPROTO);
  EXPECT_NE(status.message().find("garbage.bpf.o was detached for illegal answers"), std::string::npos);
  EXPECT_FALSE(kernel.active);
}

TEST_F(BalancerTest, RestoreSaysWhyItCannot) {
  ASSERT_TRUE(store.Save(Choice{.policy = "of_old", .object = {}, .from = {}}).ok());
  EXPECT_EQ(balancer.Restore().status().code(), ENOENT);
  ASSERT_TRUE(balancer.Set("p2c_latency").ok());
  Reboot();
  kernel.load_error = Status(EPERM, "loading BPF needs root");
  EXPECT_EQ(balancer.Restore().status().code(), EPERM);
  EXPECT_FALSE(kernel.active);
}

TEST_F(BalancerTest, APolicyThatIsRefusedIsNotChosen) {
  ASSERT_TRUE(balancer.Set("p2c_latency").ok());
  kernel.load_error = Status(EINVAL, "refused");
  EXPECT_FALSE(balancer.Set(Object("mine")).ok());
  EXPECT_EQ(store.Load()->policy, "p2c_latency");
}

TEST_F(BalancerTest, SaysWhenTheChoiceCannotBeKept) {
  std::ofstream(root + "/choice") << "a file where the folder should be";
  Status status = balancer.Set("p2c_latency").status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("is in force, but will not be after a reboot"), std::string::npos);
  EXPECT_TRUE(kernel.active);
}

class ChoiceTest : public testing::Test {
 protected:
  ~ChoiceTest() override { std::filesystem::remove_all(dir); }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/" + name) << text;
  }
  std::string dir = testing::TempDir() + "choice_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  ChoiceStore store{dir};
};

TEST_F(ChoiceTest, KeepsOneObject) {
  EXPECT_EQ(store.Load().status().code(), ENOENT);
  for (int i = 1; i <= 2; ++i) {
    Choice mine{.policy = {}, .object = std::vector<std::byte>(100, static_cast<std::byte>(i)), .from = "/a/b.bpf.o"};
    ASSERT_TRUE(store.Save(mine).ok());
    Result<Choice> loaded = store.Load();
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_EQ(loaded->object, mine.object);
    EXPECT_EQ(loaded->from, "/a/b.bpf.o");
  }
  auto files = std::distance(std::filesystem::directory_iterator(dir), {});
  EXPECT_EQ(files, 2) << "the choice and the last object";
  ASSERT_TRUE(store.Save(Choice{.policy = "weighted", .object = {}, .from = {}}).ok());
  EXPECT_EQ(store.Load()->policy, "weighted");
}

TEST_F(ChoiceTest, RefusesADamagedFile) {
  for (const char* text : {"", "policy = 3", "policy = 'a'\nobject = 'policy-1.bpf.o'", "polcy = 'a'",
                           "object = '/etc/passwd'", "object = 'policy-/../../x.bpf.o'", "\xff\xfe"}) {
    Write("choice.toml", text);
    EXPECT_EQ(store.Load().status().code(), EINVAL) << text;
  }
  Write("choice.toml", "object = 'policy-1.bpf.o'");
  EXPECT_EQ(store.Load().status().code(), ENOENT);
  Write("policy-1.bpf.o", "");
  EXPECT_EQ(store.Load().status().code(), EINVAL);
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
