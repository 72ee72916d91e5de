// SPDX-License-Identifier: MIT
#include "userland/ctl/nvme_target.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nvmeof/fake_fabric.h"
#include "nvmeof/fake_reservation.h"
#include "userland/base/uuid.h"
#include "userland/target/backing.h"

namespace weft::ctl {
namespace {

using nvmeof::Endpoint;
using nvmeof::FakeFabric;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kNqn = "nqn.2026-01.test:store";
constexpr uint64_t kSize = 32 << 20;
constexpr nvmeof::HostId kHost{1};
constexpr nvmeof::HostId kOther{2};

// Files stand in for namespaces' devices.
class NvmeTargetTest : public testing::Test {
 protected:
  NvmeTargetTest() {
    std::string pattern = testing::TempDir() + "/nvme-target-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    fabric_.AddSubsystem(kNqn, {first_, second_});
    request_.uris = {Uri(first_)};
    request_.cluster = "lab";
    request_.cluster_uuid = std::string(16, 'c');
  }
  ~NvmeTargetTest() override { std::filesystem::remove_all(folder_); }

  static nvmeof::Uri Uri(const Endpoint& endpoint, uint32_t nsid = 0) {
    return {.endpoint = endpoint, .nqn = kNqn, .nsid = nsid};
  }
  std::string PathOf(uint32_t nsid) const { return folder_ / ("n" + std::to_string(nsid)); }
  // Of `bytes`, of which none is written.
  nvmeof::Namespace MakeNamespace(uint32_t nsid, uint64_t bytes = kSize) {
    std::ofstream(PathOf(nsid)).close();
    std::filesystem::resize_file(PathOf(nsid), bytes);
    nvmeof::Namespace ns;
    ns.device = PathOf(nsid);
    ns.nsid = nsid;
    ns.bytes = bytes;
    ns.id.uuid.fill(static_cast<uint8_t>(nsid));
    ns.id.nguid.fill(static_cast<uint8_t>(0x80 + nsid));
    return ns;
  }
  void AddNamespace(uint32_t nsid, uint64_t bytes = kSize) { fabric_.AddNamespace(kNqn, MakeNamespace(nsid, bytes)); }
  void Poke(uint32_t nsid, uint64_t offset, std::string_view bytes) {
    int fd = open(PathOf(nsid).c_str(), O_RDWR);
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)), static_cast<ssize_t>(bytes.size()));
    close(fd);
  }
  char Peek(uint32_t nsid, uint64_t offset) {
    char byte = '?';
    int fd = open(PathOf(nsid).c_str(), O_RDONLY);
    EXPECT_EQ(pread(fd, &byte, 1, static_cast<off_t>(offset)), 1);
    close(fd);
    return byte;
  }
  std::unique_ptr<target::Backing> Label(uint32_t nsid) {
    auto backing = target::Backing::Open({.path = PathOf(nsid), .create = false, .layout = target::Layout::kPlain});
    EXPECT_TRUE(backing.ok()) << backing.status().message();
    return backing.ok() ? *std::move(backing) : nullptr;
  }

  Result<idl::RegisterTargetArgs> Prepare() {
    return PrepareNvmeTarget(
        &fabric_, {}, request_,
        [this](const nvmeof::Namespace&) -> Result<std::unique_ptr<nvmeof::ReservationPort>> {
          return reservations_.PortOf(kHost);
        },
        [this](idl::RegisterTargetArgs* args) {
          checked_ = *args;
          return refusal_;
        });
  }
  void Refused(int code, const std::string& words) {
    Status s = Prepare().status();
    EXPECT_EQ(s.code(), code) << s.message();
    EXPECT_THAT(s.message(), HasSubstr(words));
    EXPECT_FALSE(fabric_.connected(first_, kNqn)) << "a connection stays";
  }

  std::filesystem::path folder_;
  const Endpoint first_{nvmeof::Transport::kRdma, "10.0.0.1", 4420};
  const Endpoint second_{nvmeof::Transport::kRdma, "10.0.1.1", 4420};
  FakeFabric fabric_;
  nvmeof::FakeReservations reservations_;
  NvmeTargetRequest request_;
  std::optional<idl::RegisterTargetArgs> checked_;  // by the metadata server
  Status refusal_;
};

TEST_F(NvmeTargetTest, NothingIsWrittenThatTheServerRefuses) {
  AddNamespace(1);
  Poke(1, 0, "XFSB");
  request_.name = "taken";
  request_.force = true;
  refusal_ = Status(EEXIST, "another target is named 'taken'");
  Refused(EEXIST, "another target is named 'taken'");
  EXPECT_EQ(Peek(1, 0), 'X');
  Refused(EEXIST, "another target is named 'taken'");
  refusal_ = Status();
  auto args = Prepare();
  ASSERT_TRUE(args.ok()) << args.status().message();
  EXPECT_EQ(*checked_, *args) << "it was asked about what it is then told";
  EXPECT_EQ(args->uuid, ToBytes(Label(1)->uuid()));
}

TEST_F(NvmeTargetTest, ALabelIsNotCompletedWhenTheServerRefuses) {
  AddNamespace(1);
  { ASSERT_TRUE(target::Backing::Open({.path = PathOf(1), .layout = target::Layout::kPlain}).ok()); }
  uint64_t somewhere = 9 << 20;
  Poke(1, somewhere, "x");
  refusal_ = Status(EINVAL, "no");
  Refused(EINVAL, "no");
  EXPECT_EQ(Peek(1, somewhere), 'x');
  EXPECT_TRUE(IsNil(Label(1)->cluster()));
}

// Another path to it is made known where it is mounted.
TEST_F(NvmeTargetTest, AMemberThatIsInUseIsWhoThePoolSays) {
  AddNamespace(1);
  auto first = Prepare();
  ASSERT_TRUE(first.ok()) << first.status().message();
  auto used = Label(1);
  idl::TargetInfo& member = request_.members.emplace_back();
  member.id = 3;
  member.uuid = first->uuid;
  member.capacity_bytes = first->capacity_bytes;
  member.__set_nvme(first->nvme);
  request_.uris = {Uri(first_), Uri(second_)};
  checked_.reset();
  auto again = Prepare();
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->uuid, first->uuid);
  EXPECT_EQ(again->capacity_bytes, first->capacity_bytes);
  EXPECT_EQ(again->nvme.uris.size(), 2U);
  ASSERT_TRUE(checked_);
  member.nvme.nguid[0] ^= 1;
  Refused(EBUSY, "in use by another weft-target or weftd");
  member.nvme.nguid[0] ^= 1;
  member.id = 0;
  Refused(EBUSY, "in use by another weft-target or weftd");
}

TEST_F(NvmeTargetTest, AFreshNamespaceIsLabelled) {
  AddNamespace(7);
  request_.name = "n1";
  request_.zone = "r1";
  request_.weight = 40;
  request_.data_path = idl::DataPath::DIRECT;
  auto args = Prepare();
  ASSERT_TRUE(args.ok()) << args.status().message();
  auto label = Label(7);
  ASSERT_TRUE(label);
  EXPECT_EQ(ToBytes(label->cluster()), request_.cluster_uuid);
  EXPECT_EQ(args->uuid, ToBytes(label->uuid()));
  EXPECT_EQ(args->cluster_uuid, request_.cluster_uuid);
  EXPECT_EQ(args->cluster, "lab");
  EXPECT_EQ(args->capacity_bytes, static_cast<int64_t>(kSize - (1 << 20)));
  EXPECT_EQ(args->name, "n1");
  EXPECT_EQ(args->zone, "r1");
  EXPECT_EQ(args->weight, 40);
  EXPECT_TRUE(args->host.empty());
  EXPECT_EQ(args->port, 0);
  ASSERT_TRUE(args->__isset.nvme);
  EXPECT_THAT(args->nvme.uris, ElementsAre(Uri(first_, 7).ToString())) << "nobody has to guess later";
  EXPECT_EQ(args->nvme.nsid, 7);
  EXPECT_EQ(args->nvme.uuid, std::string(16, '\7'));
  EXPECT_EQ(args->nvme.nguid, std::string(16, '\x87'));
  EXPECT_EQ(args->nvme.data_path, idl::DataPath::DIRECT);
}

TEST_F(NvmeTargetTest, AddedAgainItIsTakenAsItIs) {
  AddNamespace(1);
  auto first = Prepare();
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_EQ(first->name, "nvme-" + ToString(*UuidFromBytes(first->uuid)).substr(0, 8));
  uint64_t somewhere = 9 << 20;
  Poke(1, somewhere, "x");
  request_.force = true;
  auto again = Prepare();
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, *first);
  EXPECT_EQ(Peek(1, somewhere), 'x') << "what it holds stays, forced or not";
}

TEST_F(NvmeTargetTest, ALabelWithoutAClusterIsCompleted) {
  AddNamespace(1);
  uint64_t somewhere = 9 << 20;
  Uuid uuid;
  {
    auto made = target::Backing::Open({.path = PathOf(1), .layout = target::Layout::kPlain});
    ASSERT_TRUE(made.ok()) << made.status().message();
    uuid = (*made)->uuid();
  }
  Poke(1, somewhere, "x");
  auto args = Prepare();
  ASSERT_TRUE(args.ok()) << args.status().message();
  EXPECT_EQ(args->uuid, ToBytes(uuid));
  EXPECT_EQ(ToBytes(Label(1)->cluster()), request_.cluster_uuid);
  EXPECT_EQ(Peek(1, somewhere), '\0') << "whoever made it did not come as far as this";
}

TEST_F(NvmeTargetTest, ANamespaceOfAnotherClusterIsRefused) {
  AddNamespace(1);
  ASSERT_TRUE(Prepare().ok());
  request_.cluster_uuid = std::string(16, 'd');
  Refused(EEXIST, "belongs to another cluster (63636363-");
  request_.force = true;
  Refused(EEXIST, "cannot be in two pools");
  EXPECT_EQ(ToBytes(Label(1)->cluster()), std::string(16, 'c'));
}

TEST_F(NvmeTargetTest, WhatHoldsSomethingIsTakenByForceAlone) {
  AddNamespace(1);
  Poke(1, 0, "XFSB");
  uint64_t somewhere = 9 << 20;
  Poke(1, somewhere, "x");
  Refused(EEXIST, "an XFS file system");
  Refused(EEXIST, "--force");
  EXPECT_EQ(Peek(1, 0), 'X');
  request_.force = true;
  auto args = Prepare();
  ASSERT_TRUE(args.ok()) << args.status().message();
  EXPECT_EQ(Peek(1, somewhere), '\0') << "what no chunk has used reads as zeroes";
}

TEST_F(NvmeTargetTest, ADamagedLabelSaysWhatForceWouldDo) {
  AddNamespace(1);
  ASSERT_TRUE(Prepare().ok());
  Poke(1, 100, "damage");
  Poke(1, 4096 + 100, "damage");
  Refused(EBADMSG, "--force makes it a new, empty target");
  request_.force = true;
  EXPECT_TRUE(Prepare().ok());
}

TEST_F(NvmeTargetTest, TheDeviceOfAWeftTargetIsRefused) {
  AddNamespace(1);
  { ASSERT_TRUE(target::Backing::Open({.path = PathOf(1)}).ok()); }
  request_.force = true;
  Refused(EINVAL, "the device of a weft-target");
}

TEST_F(NvmeTargetTest, ANamespaceThatIsInUseIsRefused) {
  AddNamespace(1);
  ASSERT_TRUE(Prepare().ok());
  auto used = Label(1);
  Refused(EBUSY, "in use by another weft-target or weftd");
}

TEST_F(NvmeTargetTest, WhatIsTooSmallIsRefused) {
  AddNamespace(1);
  request_.bytes_min = 64 << 20;
  Refused(EINVAL, "has 32.0 MiB; 1.0 MiB for the label and a chunk of 64.0 MiB are needed");
  request_.bytes_min = 0;
  AddNamespace(1, 8 << 20);
  Refused(EINVAL, "at least 16777216 are needed");
}

TEST_F(NvmeTargetTest, BlocksMustFitIntoOurs) {
  for (uint32_t bytes : {8192U, 0x10000U, 3000U}) {
    nvmeof::Namespace ns = MakeNamespace(1);
    ns.block_bytes = bytes;
    fabric_.AddNamespace(kNqn, ns);
    Refused(EINVAL, "namespace 1 of " + std::string(kNqn) + " has blocks of " + std::to_string(bytes) + " bytes");
  }
  nvmeof::Namespace ns = MakeNamespace(1);
  ns.block_bytes = 4096;
  fabric_.AddNamespace(kNqn, ns);
  EXPECT_TRUE(Prepare().ok());
}

TEST_F(NvmeTargetTest, AReadOnlyNamespaceIsRefused) {
  nvmeof::Namespace ns = MakeNamespace(1);
  ns.read_only = true;
  fabric_.AddNamespace(kNqn, ns);
  Refused(EROFS, "is read-only; export it writable");
}

TEST_F(NvmeTargetTest, OfSeveralNamespacesOneHasToBeNamed) {
  AddNamespace(1);
  AddNamespace(5);
  Refused(EINVAL, "has the namespaces 1, 5; say which");
  request_.uris = {Uri(first_, 5), Uri(second_, 5)};
  auto args = Prepare();
  ASSERT_TRUE(args.ok()) << args.status().message();
  EXPECT_EQ(args->nvme.nsid, 5);
  EXPECT_EQ(args->uuid, ToBytes(Label(5)->uuid()));
  EXPECT_THAT(args->nvme.uris, ElementsAre(Uri(first_, 5).ToString(), Uri(second_, 5).ToString()));
}

// The kernel makes their devices one by one, in any order.
TEST_F(NvmeTargetTest, OneOfSeveralThatIsVisibleFirstIsNotTakenForTheOnlyOne) {
  AddNamespace(3);
  fabric_.SetHidden(kNqn, false, 2);
  AddNamespace(1);
  Refused(EINVAL, "has the namespaces 1, 3; say which");
}

TEST_F(NvmeTargetTest, ItWaitsForTheNamespaceToAppear) {
  fabric_.SetHidden(kNqn, false, 2);
  AddNamespace(1);
  EXPECT_TRUE(Prepare().ok());
}

TEST_F(NvmeTargetTest, AnEndpointThatCannotBeReachedIsNamed) {
  AddNamespace(1);
  fabric_.SetReachable(first_, false);
  Refused(ETIMEDOUT, "10.0.0.1:4420");
  fabric_.SetReachable(first_, true);
  fabric_.SetReachable(second_, false);
  request_.uris = {Uri(first_), Uri(second_)};
  Refused(ETIMEDOUT, "10.0.1.1:4420");
}

TEST_F(NvmeTargetTest, ConnectionsEndWithIt) {
  AddNamespace(1);
  request_.uris = {Uri(first_), Uri(second_)};
  ASSERT_TRUE(Prepare().ok());
  EXPECT_FALSE(fabric_.connected(first_, kNqn));
  EXPECT_FALSE(fabric_.connected(second_, kNqn));
  EXPECT_EQ(fabric_.calls().back(), std::string("disconnect ") + kNqn);
}

TEST_F(NvmeTargetTest, ConnectionsThatSomebodyUsesStay) {
  AddNamespace(1);
  ASSERT_TRUE(fabric_.Connect(second_, kNqn, {}).ok());
  ASSERT_TRUE(Prepare().ok());
  EXPECT_TRUE(fabric_.connected(second_, kNqn));
}

TEST_F(NvmeTargetTest, PathsAreOfOneNamespace) {
  auto uris = ParsePaths({"nvme+rdma://10.0.0.1/nqn.x?nsid=2", "nvme+tcp://10.0.1.1:8009/nqn.x?nsid=2"});
  ASSERT_TRUE(uris.ok()) << uris.status().message();
  EXPECT_EQ(uris->size(), 2U);
  for (const char* other : {"nvme+rdma://10.0.1.1/nqn.y?nsid=2", "nvme+rdma://10.0.1.1/nqn.x"}) {
    Status s = ParsePaths({"nvme+rdma://10.0.0.1/nqn.x?nsid=2", other}).status();
    EXPECT_EQ(s.code(), EINVAL);
    EXPECT_THAT(s.message(), HasSubstr(std::string(other) + " is no path to the same namespace"));
  }
  EXPECT_EQ(ParsePaths({"nvme+rdma://10.0.0.1/"}).status().code(), EINVAL);
}

TEST_F(NvmeTargetTest, ANamespaceThatOthersHaveReservedIsNotRead) {
  AddNamespace(1);
  reservations_.Put({kOther, 0xabcdef});
  reservations_.Reserve(nvmeof::ReservationType::kWriteExclusive);
  request_.force = true;
  Refused(EBUSY, "namespace 1 of nqn.2026-01.test:store is used by others: key 0xabcdef");
  Refused(EBUSY, "nvme resv-release");
  EXPECT_EQ(Peek(1, 0), '\0') << "it was labelled";
  reservations_.LosePower();
  EXPECT_TRUE(Prepare().ok());
}

TEST_F(NvmeTargetTest, ANamespaceThatThisClusterHasReservedIsAddedWhereItIsMounted) {
  AddNamespace(1);
  uint64_t key = *nvmeof::ReservationKey(*UuidFromBytes(request_.cluster_uuid), 5);
  reservations_.Put({kOther, key});
  reservations_.Reserve(nvmeof::ReservationType::kExclusiveAccessAll);
  Refused(EBUSY, "reserved by this cluster, for session 5");
  reservations_.Put({kHost, key});
  EXPECT_TRUE(Prepare().ok());
}

}  // namespace
}  // namespace weft::ctl
