// SPDX-License-Identifier: MIT
#include "userland/agent/device_paths.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace weft::agent {
namespace {

class DevicePathsTest : public testing::Test {
 protected:
  DevicePaths::Users Users() {
    auto note = [this](std::string who, std::optional<BlockDevice>* last) {
      return [this, who, last](uint32_t target, const std::optional<BlockDevice>& device) {
        log_ += fmt::format("{} {} {};", who, target, device ? device->path : "-");
        *last = device;
        return device ? error_ : Status::Ok();
      };
    };
    return {.kernel = note("kernel", &kernel_), .queues = note("queues", &queues_)};
  }
  std::string Log() { return std::exchange(log_, ""); }
  static idl::TargetMap Map(idl::DataPath::type path) {
    idl::TargetMap map;
    idl::TargetAddress& target = map.targets.emplace_back();
    target.id = 7;
    target.nvme.data_path = path;
    target.__isset.nvme = true;
    map.targets.emplace_back().id = 8;  // a weft-target
    return map;
  }
  static nvmeof::Namespace Ns(uint64_t number) {
    nvmeof::Namespace ns;
    ns.device = fmt::format("/dev/nvme{}n1", number);
    ns.device_number = number;
    ns.bytes = 64 << 20;
    ns.write_cache = true;
    return ns;
  }
  void Reached(uint64_t number) {
    nvmeof::Namespace ns = Ns(number);
    paths_.SetNamespace(7, {}, &ns);
  }

  std::string log_;
  Status error_;
  std::optional<BlockDevice> kernel_, queues_;
  DevicePaths paths_{Users()};
};

TEST_F(DevicePathsTest, AVisibleNamespaceIsReachedDirectlyUnlessToldOtherwise) {
  paths_.SetMap(Map(idl::DataPath::AUTO));
  EXPECT_EQ(Log(), "");
  EXPECT_EQ(paths_.NameOf(7), "");
  Reached(1);
  EXPECT_EQ(Log(), "queues 7 /dev/nvme1n1;kernel 7 /dev/nvme1n1;");
  EXPECT_EQ(paths_.NameOf(7), "direct");
  EXPECT_EQ(kernel_->data_offset, 1u << 20);
  EXPECT_EQ(kernel_->data_bytes, 63u << 20);
  EXPECT_TRUE(kernel_->write_cache);

  paths_.SetMap(Map(idl::DataPath::AGENT));
  EXPECT_EQ(Log(), "kernel 7 -;") << "the queues keep it";
  EXPECT_EQ(paths_.NameOf(7), "agent");
  paths_.SetMap(Map(idl::DataPath::DIRECT));
  EXPECT_EQ(Log(), "kernel 7 /dev/nvme1n1;");
}

TEST_F(DevicePathsTest, APathThatIsAwayForAWhileKeepsTheDevice) {
  paths_.SetMap(Map(idl::DataPath::AUTO));
  Reached(1);
  Log();
  nvmeof::Namespace ns = Ns(1);
  paths_.SetNamespace(7, Error(EHOSTDOWN, "no path"), &ns);
  EXPECT_EQ(Log(), "") << "the kernel's multipath waits for it";
  EXPECT_FALSE(*queues_->reachable) << "what fails now could not reach it";
  Reached(1);
  EXPECT_TRUE(*queues_->reachable);
}

TEST_F(DevicePathsTest, ANamespaceThatIsGoneOrComesBackAsAnotherDeviceIsLetGoOf) {
  paths_.SetMap(Map(idl::DataPath::AUTO));
  Reached(1);
  std::shared_ptr<std::atomic<bool>> old = queues_->reachable;
  Log();
  Reached(2);
  EXPECT_EQ(Log(), "queues 7 -;kernel 7 -;queues 7 /dev/nvme2n1;kernel 7 /dev/nvme2n1;");
  EXPECT_FALSE(*old);
  paths_.SetNamespace(7, Error(ENODEV, "it is gone"), nullptr);
  EXPECT_EQ(Log(), "queues 7 -;kernel 7 -;");
  EXPECT_EQ(paths_.NameOf(7), "");
}

TEST_F(DevicePathsTest, WhatTheKernelDoesNotTakeGoesByTheAgent) {
  paths_.SetMap(Map(idl::DataPath::AUTO));
  error_ = Error(EINVAL, "blocks too large");
  Reached(1);
  EXPECT_EQ(paths_.NameOf(7), "agent");
  Log();
  error_ = {};
  Reached(1);
  EXPECT_EQ(paths_.NameOf(7), "direct") << "tried again when something is told of it";
}

TEST_F(DevicePathsTest, TheEndOfTheSessionTakesEverythingBack) {
  paths_.SetMap(Map(idl::DataPath::AUTO));
  Reached(1);
  Log();
  paths_.Clear();
  EXPECT_EQ(Log(), "queues 7 -;kernel 7 -;");
}

}  // namespace
}  // namespace weft::agent
