// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <condition_variable>
#include <cstring>
#include <fcntl.h>
#include <future>
#include <mutex>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <thrift/processor/TMultiplexedProcessor.h>

#include "thrift-gen/TargetService.h"
#include "userland/rpc/client.h"
#include "userland/rpc/server.h"
#include "userland/rpc/socket.h"

namespace weft {
namespace {

using apache::thrift::TMultiplexedProcessor;
using Client = RpcClient<idl::TargetServiceClient>;

// Answers registerTarget by the name that is asked for.
class FakeTargetService : public idl::TargetServiceIf {
 public:
  void registerTarget(idl::TargetOrders& orders, const idl::RegisterTargetArgs& params) override {
    if (params.name == "refuse") {
      idl::ServiceError error;
      error.code = EEXIST;
      error.message = "no";
      throw error;
    }
    if (params.name == "throw") throw std::runtime_error("broken");
    if (params.name == "block") {
      std::unique_lock lock(mutex_);
      blocked_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return released_; });
    }
    orders.id = params.port;
  }
  void nextJobs(idl::Jobs&, const std::string&, int64_t, int64_t, int32_t) override {}
  void finishJobs(const std::string&, int64_t, const std::vector<idl::JobResult>&) override {}
  void reportDamage(const std::string&, int64_t, const std::vector<idl::Damage>&) override {}
  void heartbeat(idl::TargetOrders& orders, const std::string& uuid, const idl::TargetReport&, int64_t) override {
    orders.cluster_uuid = uuid;
  }

  void AwaitBlocked() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return blocked_; });
  }
  void Release() {
    std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool blocked_ = false;
  bool released_ = false;
};

class RpcTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(0); }
  void Start(uint16_t port) {
    auto processor = std::make_shared<TMultiplexedProcessor>();
    processor->registerProcessor(std::string(kTargetService), std::make_shared<idl::TargetServiceProcessor>(service_));
    auto server = RpcServer::Listen({"127.0.0.1", port}, processor);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = *std::move(server);
  }

  static Result<idl::TargetOrders> Register(Client& client, const std::string& name, int reply_ms = 0) {
    return client.Call(
        [&](idl::TargetServiceClient& service) {
          idl::RegisterTargetArgs args;
          args.name = name;
          args.port = 7;
          idl::TargetOrders orders;
          service.registerTarget(orders, args);
          return orders;
        },
        reply_ms);
  }

  // Sends bytes as they are and waits for the server to close the connection.
  void SendRaw(const std::string& bytes, bool half_close) {
    Result<int> fd = ConnectTcp(server_->address(), 1000);
    ASSERT_TRUE(fd.ok());
    ASSERT_EQ(send(*fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    if (half_close) shutdown(*fd, SHUT_WR);
    fcntl(*fd, F_SETFL, 0);
    timeval limit{20, 0};
    setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    char buf[4096];
    ssize_t n;
    while ((n = recv(*fd, buf, sizeof(buf), 0)) > 0) {
    }
    EXPECT_TRUE(n == 0 || errno == ECONNRESET) << strerror(errno);
    close(*fd);
  }

  std::shared_ptr<FakeTargetService> service_ = std::make_shared<FakeTargetService>();
  std::unique_ptr<RpcServer> server_;
};

std::string Frame(std::string_view body, uint32_t claimed) {
  uint32_t size = htonl(claimed);
  std::string frame(reinterpret_cast<char*>(&size), 4);
  return frame.append(body);
}
std::string Frame(std::string_view body) { return Frame(body, static_cast<uint32_t>(body.size())); }

TEST_F(RpcTest, AnswersAndErrorsPass) {
  Client client(server_->address(), kTargetService);
  auto orders = Register(client, "t1");
  ASSERT_TRUE(orders.ok()) << orders.status().message();
  EXPECT_EQ(orders->id, 7);
  auto refused = Register(client, "refuse");
  EXPECT_EQ(refused.status().code(), EEXIST);
  EXPECT_EQ(refused.status().message(), "no");
  EXPECT_EQ(Register(client, "throw").status().code(), EPROTO);
  EXPECT_TRUE(Register(client, "t1").ok());
}

TEST_F(RpcTest, UnknownServiceIsNamed) {
  Client client(server_->address(), "nonsense");
  auto orders = Register(client, "t1");
  EXPECT_EQ(orders.status().code(), EPROTO);
  EXPECT_NE(orders.status().message().find("nonsense"), std::string::npos) << orders.status().message();
}

TEST_F(RpcTest, ForeignAndTruncatedBytesDropOnlyTheirConnection) {
  Client client(server_->address(), kTargetService);
  ASSERT_TRUE(Register(client, "t1").ok());
  const std::string call_begin("\x82\x21\x01\x15target:registerTarget", 25);
  const std::string cases[] = {
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      std::string(64, '\xff'),
      std::string(8, '\0'),
      Frame("", 0),
      Frame("abc", 0x7fffffff),
      Frame(std::string(100, 'x')),
      Frame("\x82\x21\x01"),
      // A list of 2^31 - 1 requests, a string of as many bytes.
      Frame(call_begin + "\x1c\x19\xfc\xff\xff\xff\xff\x07"),
      Frame(call_begin + "\x1c\x28\xff\xff\xff\xff\x07"),
      // Structs nested without end.
      Frame(call_begin + std::string(4000, '\x1c')),
  };
  for (const std::string& bytes : cases) SendRaw(bytes, true);
  // Ends inside the length, inside the frame.
  SendRaw("\x01", true);
  SendRaw(Frame("abc", 1000), true);
  SendRaw("", true);
  EXPECT_TRUE(Register(client, "t1").ok());
}

TEST_F(RpcTest, EveryTruncationOfACallIsSurvived) {
  const std::string name(40, 'n');
  std::string body("\x82\x21\x01\x15target:registerTarget", 25);
  body += std::string("\x1c\x15\x02\x18\x04weft\x18\x10", 9) + std::string(16, 'u') + "\x18\x28" + name;
  for (size_t cut = 0; cut < body.size(); cut += 3) SendRaw(Frame(body.substr(0, cut)), true);
  for (size_t at = 0; at < body.size(); ++at) {
    std::string changed = body;
    changed[at] = static_cast<char>(changed[at] ^ 0x7f);
    SendRaw(Frame(changed), true);
  }
  Client client(server_->address(), kTargetService);
  EXPECT_TRUE(Register(client, "t1").ok());
}

TEST_F(RpcTest, OneConnectionCarriesAnyNumberOfBytes) {
  Client client(server_->address(), kTargetService);
  const std::string large(60'000, 'x');
  for (int i = 0; i < 2'500; ++i) {  // more than Thrift's default limit of 100 MB
    Result<idl::TargetOrders> orders = client.Call([&](idl::TargetServiceClient& service) {
      idl::TargetOrders reply;
      service.heartbeat(reply, large, {}, 0);
      return reply;
    });
    ASSERT_TRUE(orders.ok()) << i << ": " << orders.status().message();
    ASSERT_EQ(orders->cluster_uuid, large);
  }
}

TEST_F(RpcTest, OversizedValuesAreRefused) {
  Client client(server_->address(), kTargetService);
  EXPECT_FALSE(Register(client, std::string(kStringBytesMax + 1, 'x')).ok());
  EXPECT_EQ(Register(client, std::string(kFrameBytesMax, 'x')).status().code(), EMSGSIZE);
  EXPECT_TRUE(Register(client, "t1").ok());
}

TEST_F(RpcTest, SlowReplyTimesOutAndTheNextCallConnectsAgain) {
  Client client(server_->address(), kTargetService);
  EXPECT_EQ(Register(client, "block", 50).status().code(), ETIMEDOUT);
  EXPECT_TRUE(Register(client, "t1").ok());
  service_->Release();
}

TEST_F(RpcTest, InterruptEndsACall) {
  Client client(server_->address(), kTargetService);
  auto call = std::async(std::launch::async, [&] { return Register(client, "block").status().code(); });
  service_->AwaitBlocked();
  client.Interrupt();
  EXPECT_EQ(call.get(), ECANCELED);
  EXPECT_EQ(Register(client, "t1").status().code(), ECANCELED);
  client.Resume();
  EXPECT_TRUE(Register(client, "t1").ok());
  service_->Release();
}

TEST_F(RpcTest, StopLetsARunningCallFinish) {
  Client idle(server_->address(), kTargetService);
  ASSERT_TRUE(Register(idle, "t1").ok());
  Client client(server_->address(), kTargetService);
  auto call = std::async(std::launch::async, [&] { return Register(client, "block"); });
  service_->AwaitBlocked();
  auto stop = std::async(std::launch::async, [&] { server_->Stop(); });
  service_->Release();
  stop.get();
  EXPECT_TRUE(call.get().ok());
  Status status = Register(idle, "t1").status();
  EXPECT_TRUE(IsConnectionError(status)) << status.message();
}

TEST_F(RpcTest, ClientFindsARestartedServer) {
  Client client(server_->address(), kTargetService);
  ASSERT_TRUE(Register(client, "t1").ok());
  uint16_t port = server_->address().port;
  server_.reset();
  EXPECT_TRUE(IsConnectionError(Register(client, "t1").status()));
  EXPECT_EQ(Register(client, "t1").status().code(), ECONNREFUSED);
  Start(port);
  EXPECT_TRUE(Register(client, "t1").ok());
}

TEST_F(RpcTest, AddressInUseIsNamed) {
  auto second = RpcServer::Listen(server_->address(), nullptr);
  EXPECT_EQ(second.status().code(), EADDRINUSE);
  EXPECT_NE(second.status().message().find(server_->address().ToString()), std::string::npos);
}

}  // namespace
}  // namespace weft
