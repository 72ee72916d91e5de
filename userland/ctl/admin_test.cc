// SPDX-License-Identifier: MIT
#include "userland/ctl/admin.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thrift/processor/TMultiplexedProcessor.h>

#include "thrift-gen/AdminService.h"
#include "userland/rpc/client.h"
#include "userland/rpc/server.h"

namespace weft::ctl {
namespace {

using testing::HasSubstr;

class FakeService : public idl::AdminServiceNull {
 public:
  void version(idl::Version& reply) override { reply.software = "9.8.7"; }
  void createPool(idl::PoolStatus& reply, const idl::CreatePoolArgs& params) override { reply.copies = params.copies; }
  void poolStatus(idl::PoolStatus& reply) override { reply.cluster = "lab"; }
  void setPool(idl::PoolStatus& reply, const idl::PoolSettings& settings) override { reply.copies = settings.copies; }
  void addTarget(idl::PoolStatus& reply, const std::string& name) override { reply.cluster = "add " + name; }
  void addNvmeTarget(idl::PoolStatus& reply, const idl::RegisterTargetArgs& params, bool only_check) override {
    if (only_check) Fail(EEXIST, params.name + " is taken");
    reply.cluster = "add nvme " + params.name + " " + params.nvme.uris.at(0);
  }
  void setDataPath(idl::PoolStatus& reply, const std::string& name, idl::DataPath::type path) override {
    reply.cluster = fmt::format("path {} {}", name, static_cast<int>(path));
  }
  void drainTarget(idl::PoolStatus& reply, const std::string& name, bool cancel) override {
    reply.cluster = fmt::format("drain {} {}", name, cancel);
  }
  void removeTarget(idl::PoolStatus& reply, const std::string& name, bool lost) override {
    reply.cluster = fmt::format("remove {} {}", name, lost);
  }
  void rebalance(idl::PoolStatus& reply, bool stop) override { reply.cluster = fmt::format("rebalance {}", stop); }
  void scrub(idl::PoolStatus& reply, bool stop) override { reply.cluster = fmt::format("scrub {}", stop); }
  void fsck(idl::FsckReport& reply, const idl::FsckArgs& params) override { reply.inodes = params.repair ? 2 : 1; }
  void evictSession(int64_t session, bool host_is_off) override {
    EXPECT_TRUE(host_is_off);
    Fail(ENOENT, "no session " + std::to_string(session));
  }

 private:
  [[noreturn]] static void Fail(int code, const std::string& message) {
    idl::ServiceError error;
    error.code = code;
    error.message = message;
    throw error;
  }
};

class AdminTest : public testing::Test {
 protected:
  void SetUp() override {
    auto processor = std::make_shared<apache::thrift::TMultiplexedProcessor>();
    processor->registerProcessor(std::string(kAdminService),
                                 std::make_shared<idl::AdminServiceProcessor>(std::make_shared<FakeService>()));
    Result<std::unique_ptr<RpcServer>> listening = RpcServer::Listen({"127.0.0.1", 0}, processor);
    ASSERT_TRUE(listening.ok()) << listening.status().message();
    server = *std::move(listening);
    admin = MakeAdmin(server->address());
  }

  std::unique_ptr<RpcServer> server;
  std::unique_ptr<Admin> admin;
};

TEST_F(AdminTest, CallsReachTheService) {
  EXPECT_EQ(admin->Version()->software, "9.8.7");
  EXPECT_EQ(admin->PoolStatus()->cluster, "lab");
  idl::CreatePoolArgs args;
  args.copies = 3;
  EXPECT_EQ(admin->CreatePool(args)->copies, 3);
  idl::PoolSettings settings;
  settings.__set_copies(4);
  EXPECT_EQ(admin->SetPool(settings)->copies, 4);
  EXPECT_EQ(admin->AddTarget("t1")->cluster, "add t1");
  idl::RegisterTargetArgs nvme;
  nvme.name = "n1";
  nvme.nvme.uris = {"nvme+tcp://h/nqn.x"};
  nvme.__isset.nvme = true;
  EXPECT_EQ(admin->AddNvmeTarget(nvme)->cluster, "add nvme n1 nvme+tcp://h/nqn.x");
  EXPECT_EQ(admin->CheckNvmeTarget(nvme).message(), "n1 is taken");
  EXPECT_EQ(admin->SetDataPath("n1", idl::DataPath::DIRECT)->cluster, "path n1 2");
  EXPECT_EQ(admin->DrainTarget("t1", true)->cluster, "drain t1 true");
  EXPECT_EQ(admin->RemoveTarget("t1", true)->cluster, "remove t1 true");
  EXPECT_EQ(admin->Rebalance(true)->cluster, "rebalance true");
  EXPECT_EQ(admin->Scrub(false)->cluster, "scrub false");
  idl::FsckArgs fsck;
  fsck.repair = true;
  EXPECT_EQ(admin->Fsck(fsck)->inodes, 2);
  Status evicted = admin->EvictSession(5, true);
  EXPECT_EQ(evicted.code(), ENOENT);
  EXPECT_EQ(evicted.message(), "no session 5") << "the service's own words, without a hint";
}

TEST_F(AdminTest, AServerThatIsNotThereIsNamedWithAHint) {
  std::string address = server->address().ToString();
  server.reset();
  for (const Status& status : {admin->PoolStatus().status(), admin->EvictSession(1, true)}) {
    EXPECT_EQ(status.code(), ECONNREFUSED);
    EXPECT_THAT(status.message(), HasSubstr(address));
    EXPECT_THAT(status.message(), HasSubstr("is weft-meta running there?"));
  }
}

}  // namespace
}  // namespace weft::ctl
