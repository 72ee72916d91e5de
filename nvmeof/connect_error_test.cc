// SPDX-License-Identifier: MIT
//
// Errnos and messages are those that Linux 6.12 gave.
#include "nvmeof/connect_error.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nvmeof/kernel_log.h"

namespace weft::nvmeof {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kNqn = "nqn.2026-11.test:one";
constexpr const char* kHostNqn = "nqn.2014-08.org.nvmexpress:uuid:1";

ConnectFailure Failure(Transport transport, int error, std::vector<std::string> log) {
  ConnectFailure failure;
  failure.request.endpoint = {transport, "10.0.0.1", 4420};
  failure.request.nqn = kNqn;
  failure.request.identity = {kHostNqn, "id"};
  failure.error = error;
  failure.log = std::move(log);
  return failure;
}

TEST(ConnectErrorTest, NoSuchSubsystem) {
  Status status = ExplainConnectError(Failure(
      Transport::kRdma, EIO,
      {"Connect Invalid Data Parameter, subsysnqn \"nqn.2026-11.test:one\"", "failed to connect queue: 0 ret=16770"}));
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("rdma 10.0.0.1:4420 has no subsystem nqn.2026-11.test:one"),
                                      HasSubstr("nvme discover -t rdma -a 10.0.0.1 -s 4420")));
}

TEST(ConnectErrorTest, HostIsNotAdmitted) {
  Status status = ExplainConnectError(
      Failure(Transport::kTcp, EIO,
              {"Connect for subsystem nqn.2026-11.test:one is not allowed, hostnqn: nqn.2014-08.org.nvmexpress:uuid:1",
               "failed to connect queue: 0 ret=16772"}));
  EXPECT_EQ(status.code(), EACCES);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(kNqn), HasSubstr("tcp 10.0.0.1:4420"),
                                      HasSubstr("does not admit host NQN nqn.2014-08.org.nvmexpress:uuid:1")));
}

TEST(ConnectErrorTest, KeyIsMissing) {
  Status status = ExplainConnectError(Failure(Transport::kRdma, ENOKEY, {"qid 0: no key"}));
  EXPECT_EQ(status.code(), EKEYREJECTED);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("wants host NQN"), HasSubstr("none is set")));
}

TEST(ConnectErrorTest, KeyIsWrong) {
  auto failure = Failure(Transport::kTcp, EKEYREJECTED, {"qid 0: authentication failed, error -129"});
  failure.request.settings.dhchap_key = "DHHC-1:secret";
  Status status = ExplainConnectError(failure);
  EXPECT_EQ(status.code(), EKEYREJECTED);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("rejected the DH-HMAC-CHAP key of host NQN"), Not(HasSubstr("secret"))));
  failure.request.settings.dhchap_ctrl_key = "DHHC-1:secret";
  EXPECT_THAT(ExplainConnectError(failure).message(), HasSubstr("compare both keys"));
}

// The target tears the RDMA connection down before its answer is through.
TEST(ConnectErrorTest, KeyIsWrongAndTheCommandTimesOut) {
  auto failure =
      Failure(Transport::kRdma, EIO,
              {"I/O tag 9 (0009) opcode 0x7f (Fabrics Cmd) QID 0 timeout", "qid 0: authentication failed, error 881"});
  failure.request.settings.dhchap_key = "DHHC-1:x";
  EXPECT_FALSE(IsAmbiguous(failure));
  EXPECT_EQ(ExplainConnectError(failure).code(), EKEYREJECTED);
}

TEST(ConnectErrorTest, NothingListens) {
  EXPECT_EQ(ExplainConnectError(Failure(Transport::kTcp, ECONNREFUSED, {"failed to connect socket: -111"})).code(),
            ECONNREFUSED);
  Status status = ExplainConnectError(
      Failure(Transport::kRdma, ECONNRESET,
              {"Connect rejected: status 8 (invalid service ID).", "rdma connection establishment failed (-104)"}));
  EXPECT_EQ(status.code(), ECONNREFUSED);
  EXPECT_THAT(status.message(), HasSubstr("nothing listens at rdma 10.0.0.1:4420"));
}

TEST(ConnectErrorTest, NobodyIsThere) {
  EXPECT_EQ(ExplainConnectError(Failure(Transport::kRdma, ECONNRESET, {"rdma connection establishment failed (-104)"}))
                .code(),
            EHOSTUNREACH);
  EXPECT_EQ(ExplainConnectError(Failure(Transport::kTcp, ETIMEDOUT, {})).code(), ETIMEDOUT);
  EXPECT_EQ(ExplainConnectError(Failure(Transport::kTcp, ENETUNREACH, {})).code(), EHOSTUNREACH);
  EXPECT_THAT(ExplainConnectError(Failure(Transport::kRdma, ENODEV, {})).message(), HasSubstr("no RDMA device"));
}

TEST(ConnectErrorTest, Tls) {
  auto failure = Failure(Transport::kTcp, ESRCH, {"queue 0: failed to start TLS: -3"});
  failure.request.settings.tls = true;
  EXPECT_EQ(ExplainConnectError(failure).code(), ENOPROTOOPT);
  EXPECT_THAT(ExplainConnectError(failure).message(), HasSubstr("tlshd"));

  failure.error = ENOKEY;
  failure.log = {"no valid PSK found"};
  EXPECT_EQ(ExplainConnectError(failure).code(), EKEYREJECTED);
  EXPECT_THAT(ExplainConnectError(failure).message(), HasSubstr("keyring .nvme"));
  failure.log = {"qid 0: no key"};
  EXPECT_THAT(ExplainConnectError(failure).message(), HasSubstr("none is set"));
  failure.log.reset();
  EXPECT_THAT(ExplainConnectError(failure).message(), HasSubstr("the kernel log says which"));
}

TEST(ConnectErrorTest, TheKernelRefusesTheOptions) {
  auto failure = Failure(Transport::kRdma, EINVAL, {});
  failure.has_module = false;
  Status status = ExplainConnectError(failure);
  EXPECT_EQ(status.code(), ENODEV);
  EXPECT_THAT(status.message(), HasSubstr("`modprobe nvme-rdma`"));

  failure.has_module = true;
  failure.identity_conflict = "nvme2 is connected with host NQN nqn.y and host id id";
  status = ExplainConnectError(failure);
  EXPECT_EQ(status.code(), EINVAL);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(kHostNqn), HasSubstr("nvme2")));
}

TEST(ConnectErrorTest, WithoutAKernelLogTheDiscoveryLogHelps) {
  auto failure = Failure(Transport::kTcp, EIO, {});
  failure.log.reset();
  EXPECT_TRUE(IsAmbiguous(failure));
  EXPECT_EQ(ExplainConnectError(failure).code(), EIO);
  failure.listed = false;
  EXPECT_FALSE(IsAmbiguous(failure));
  EXPECT_EQ(ExplainConnectError(failure).code(), ENOENT);
  EXPECT_THAT(ExplainConnectError(failure).message(), AllOf(HasSubstr("there is none, or"), HasSubstr(kHostNqn)));
  failure.listed = true;
  EXPECT_EQ(ExplainConnectError(failure).code(), EIO);
}

TEST(ConnectErrorTest, OtherErrorsHaveTheKernelsWords) {
  Status status = ExplainConnectError(Failure(Transport::kTcp, ENOMEM, {"creating 2 I/O queues.", "no memory"}));
  EXPECT_EQ(status.code(), ENOMEM);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("tcp 10.0.0.1:4420"), HasSubstr("the kernel says: no memory")));
}

TEST(ConnectErrorTest, OnlyMessagesOfNewControllersCount) {
  EXPECT_THAT(OfNewControllers(
                  {"nvme nvme0: Connect Invalid Data Parameter, subsysnqn \"x\"", "nvmet: ctrl 1 fatal error occurred!",
                   "nvme nvme1: qid 0: no key", "nvme nvme10: failed to connect socket: -111"},
                  {"nvme0", "nvme1"}),
              ElementsAre("failed to connect socket: -111"));
}

TEST(KernelLogTest, MessageOfARecord) {
  EXPECT_EQ(MessageOf("4,1234,5678901,-;nvme nvme0: qid 0: no key\n SUBSYSTEM=nvme\n DEVICE=c243:0"),
            "nvme nvme0: qid 0: no key");
  EXPECT_EQ(MessageOf("6,1,2,-;a; b"), "a; b");
  EXPECT_EQ(MessageOf("no record"), "");
}

TEST(KernelLogTest, NotReadable) {
  KernelLog log("/nonexistent/kmsg");
  EXPECT_FALSE(log.readable());
  EXPECT_TRUE(log.Take().empty());
}

}  // namespace
}  // namespace weft::nvmeof
