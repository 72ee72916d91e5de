// SPDX-License-Identifier: MIT
//
// For tests: gateways between a fake fabric and fake target servers.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "nvmeof/fake_reservation.h"
#include "thrift-gen/TargetService.h"
#include "userland/agent/gateway.h"
#include "userland/agent/shared_fabric.h"
#include "userland/target/target_server.h"

namespace weft::agent {

inline constexpr const char* kNqn = "nqn.2026-01.test:store";
inline constexpr uint16_t kPort = 4711;
inline constexpr nvmeof::HostId kHost{0x77};  // this one

inline Uuid UuidOf(uint32_t target) {
  Uuid uuid{};
  uuid.fill(static_cast<uint8_t>(target));
  return uuid;
}

// What the gateways did, in the eyes of the test; `kernel` wakes who waits for it.
struct Record {
  struct State {
    Status status;
    std::string device;  // empty: no namespace was told
  };
  struct Server {
    target::TargetServerOptions options;
    GatewayServer::Callbacks callbacks;
    bool linked = false;
    bool closed = false;
  };
  std::map<uint32_t, std::vector<State>> states;
  std::vector<std::shared_ptr<Server>> servers;
  std::map<std::string, Uuid> labels;  // by device
  bool held = false;                   // what servers have under way does not end
  Status lives;                        // whether the session does
  size_t asked = 0;                    // how often that was asked
};

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() {
    kernel_->fabric.AddSubsystem(kNqn, {first_, second_});
    options_.cluster = "lab";
    options_.meta = {"10.0.0.99", 7470};
    options_.cluster_key = {1, 2, 3};
    options_.rdma_address = "10.0.0.77";
    options_.host.hostnqn = "nqn.me";
    options_.detect = std::chrono::hours(1);
    options_.times = {.look = std::chrono::milliseconds(1),
                      .retry_min = std::chrono::milliseconds(1),
                      .retry_max = std::chrono::milliseconds(1),
                      .missing = std::chrono::hours(1),
                      .reservation = std::chrono::milliseconds(1)};
    options_.make_fabric = Maker(kernel_);
    reservations_.SetSupported(false);
    options_.open_reservation = [this](const nvmeof::Namespace&) -> Result<std::unique_ptr<nvmeof::ReservationPort>> {
      return reservations_.PortOf(kHost);
    };
    options_.session_lives = [this](uint64_t session) {
      EXPECT_EQ(session, session_.session);
      std::lock_guard lock(kernel_->mutex);
      ++record_.asked;
      kernel_->changed.notify_all();
      return record_.lives;
    };
    options_.open_server = [this](const target::TargetServerOptions& options) { return OpenServer(options); };
  }
  ~GatewayTest() override {
    kernel_->Unblock();
    Hold(false);
    gateway_ = nullptr;
    gateways_ = nullptr;
    EXPECT_TRUE(kernel_->AwaitLentBack());
  }

  // A server on a namespace, of the label that Record says.
  class FakeServer final : public GatewayServer {
   public:
    FakeServer(GatewayTest* test, std::shared_ptr<Record::Server> record, Uuid uuid)
        : test_(test), record_(std::move(record)), uuid_(uuid) {}
    ~FakeServer() override {
      std::unique_lock lock(test_->kernel_->mutex);
      test_->kernel_->changed.wait(lock, [this] { return !test_->record_.held; });
      record_->closed = true;
      test_->kernel_->changed.notify_all();
    }
    Uuid uuid() const override { return uuid_; }
    uint16_t port() const override { return kPort; }
    void Link(Callbacks callbacks) override {
      std::lock_guard lock(test_->kernel_->mutex);
      record_->callbacks = std::move(callbacks);
      record_->linked = true;
      test_->kernel_->changed.notify_all();
    }

   private:
    GatewayTest* const test_;
    const std::shared_ptr<Record::Server> record_;
    const Uuid uuid_;
  };

  Result<std::unique_ptr<GatewayServer>> OpenServer(const target::TargetServerOptions& options) {
    std::lock_guard lock(kernel_->mutex);
    auto server = std::make_shared<Record::Server>();
    server->options = options;
    record_.servers.push_back(server);
    return std::unique_ptr<GatewayServer>(
        std::make_unique<FakeServer>(this, server, record_.labels.at(options.backing.path)));
  }

  static std::string Text(const nvmeof::Endpoint& endpoint, uint32_t nsid = 1) {
    return nvmeof::Uri{endpoint, kNqn, nsid}.ToString();
  }
  // Target `id` is namespace `id`, at both endpoints.
  idl::TargetAddress Target(uint32_t id = 1) const {
    idl::TargetAddress target;
    target.id = static_cast<int32_t>(id);
    target.uuid = ToBytes(UuidOf(id));
    target.name = "n" + std::to_string(id);
    target.zone = "r1";
    target.weight = 30;
    idl::NvmeNamespace nvme;
    nvme.uris = {Text(first_, id), Text(second_, id)};
    nvme.uuid = std::string(16, static_cast<char>(0x40 + id));
    nvme.nguid = std::string(16, static_cast<char>(0x60 + id));
    nvme.nsid = static_cast<int32_t>(id);
    target.__set_nvme(nvme);
    return target;
  }
  void AddNamespace(uint32_t id = 1, uint64_t device_number = 0) {
    nvmeof::Namespace ns;
    ns.nsid = id;
    ns.device = fmt::format("/dev/test{}.{}", id, device_number);
    ns.device_number = device_number;
    ns.id.uuid.fill(static_cast<uint8_t>(0x40 + id));
    ns.id.nguid.fill(static_cast<uint8_t>(0x60 + id));
    ns.bytes = 1 << 30;
    ns.block_bytes = 512;
    ns.atomic_write_bytes = 2048;
    ns.write_cache = true;
    {
      std::lock_guard lock(kernel_->mutex);
      record_.labels[ns.device] = UuidOf(id);
    }
    kernel_->fabric.AddNamespace(kNqn, ns);
  }

  Gateway::StateCallback Listener() {
    return [this](uint32_t target, const Status& state, const nvmeof::Namespace* found) {
      std::lock_guard lock(kernel_->mutex);
      record_.states[target].push_back({state, found ? found->device : ""});
      kernel_->changed.notify_all();
    };
  }
  void Start() { gateway_ = std::make_unique<Gateway>(options_, session_, Target(), Listener()); }
  void StartAll(std::vector<uint32_t> ids) {
    gateways_ = std::make_unique<Gateways>(options_, Listener());
    gateways_->SetSession(session_);
    SetMap(std::move(ids));
  }
  void SetMap(std::vector<uint32_t> ids) {
    idl::TargetMap map;
    for (uint32_t id : ids) map.targets.push_back(Target(id));
    gateways_->SetMap(map);
  }

  void Hold(bool hold) {
    std::lock_guard lock(kernel_->mutex);
    record_.held = hold;
    kernel_->changed.notify_all();
  }

  // The last state told of a target is this one.
  bool AwaitState(int code, bool device, uint32_t target = 1) {
    return kernel_->Await([&] {
      const auto& states = record_.states[target];
      return !states.empty() && states.back().status.code() == code && states.back().device.empty() != device;
    });
  }
  bool AwaitUp(uint32_t target = 1) { return AwaitState(0, true, target); }
  Record::State LastState() {
    std::lock_guard lock(kernel_->mutex);
    return record_.states[1].back();
  }
  size_t StateCount() {
    std::lock_guard lock(kernel_->mutex);
    return record_.states[1].size();
  }
  // The newest, when there are `count` of them and it has been linked.
  std::shared_ptr<Record::Server> AwaitServer(size_t count = 1) {
    bool there = kernel_->Await([&] { return record_.servers.size() >= count && record_.servers.back()->linked; });
    EXPECT_TRUE(there) << "no server " << count;
    std::lock_guard lock(kernel_->mutex);
    return there ? record_.servers.back() : std::make_shared<Record::Server>();
  }
  bool AwaitClosed(const std::shared_ptr<Record::Server>& server) {
    return kernel_->Await([&] { return server->closed; });
  }
  size_t ServerCount() {
    std::lock_guard lock(kernel_->mutex);
    return record_.servers.size();
  }
  bool AwaitConnected(const nvmeof::Endpoint& endpoint) {
    return kernel_->Await([&] { return kernel_->fabric.connected(endpoint, kNqn); });
  }
  bool Connected() const { return kernel_->fabric.connected(first_, kNqn) || kernel_->fabric.connected(second_, kNqn); }

  const nvmeof::Endpoint first_{nvmeof::Transport::kRdma, "10.0.0.1", 4420};
  const nvmeof::Endpoint second_{nvmeof::Transport::kRdma, "10.0.1.1", 4420};
  std::shared_ptr<SharedFabric> kernel_ = std::make_shared<SharedFabric>();
  GatewayOptions options_;
  Record record_;                          // under kernel_->mutex
  nvmeof::FakeReservations reservations_;  // of all namespaces together; not supported at first
  nvmeof::ReservationClaim session_{.cluster = UuidOf(0xc), .session = 7, .fence_below = 7};
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<Gateways> gateways_;
};

}  // namespace weft::agent
