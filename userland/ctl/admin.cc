// SPDX-License-Identifier: MIT
#include "userland/ctl/admin.h"

#include "thrift-gen/AdminService.h"
#include "userland/rpc/client.h"

namespace weft::ctl {
namespace {

constexpr int kFsckMs = 24 * 3'600'000;

Status WithHint(const Status& status) {
  if (!IsConnectionError(status)) return status;
  return Error(status.code(), "{}; is weft-meta running there? Name another server with --meta HOST:PORT or WEFT_META",
               status.message());
}

class ThriftAdmin : public Admin {
 public:
  explicit ThriftAdmin(const Address& server) : client_(server, kAdminService) {}

  Result<idl::Version> Version() override {
    return Ask<idl::Version>([](auto& service, auto& reply) { service.version(reply); });
  }
  Result<idl::PoolStatus> CreatePool(const idl::CreatePoolArgs& args) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.createPool(reply, args); });
  }
  Result<idl::PoolStatus> PoolStatus() override {
    return Ask<idl::PoolStatus>([](auto& service, auto& reply) { service.poolStatus(reply); });
  }
  Result<idl::PoolStatus> SetPool(const idl::PoolSettings& settings) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.setPool(reply, settings); });
  }
  Result<idl::PoolStatus> AddTarget(const std::string& name) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.addTarget(reply, name); });
  }
  Result<idl::PoolStatus> AddNvmeTarget(const idl::RegisterTargetArgs& args) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.addNvmeTarget(reply, args, false); });
  }
  Status CheckNvmeTarget(const idl::RegisterTargetArgs& args) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.addNvmeTarget(reply, args, true); }).status();
  }
  Result<idl::PoolStatus> SetDataPath(const std::string& name, idl::DataPath::type path) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.setDataPath(reply, name, path); });
  }
  Result<idl::PoolStatus> DrainTarget(const std::string& name, bool cancel) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.drainTarget(reply, name, cancel); });
  }
  Result<idl::PoolStatus> RemoveTarget(const std::string& name, bool lost) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.removeTarget(reply, name, lost); });
  }
  Result<idl::PoolStatus> Rebalance(bool stop) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.rebalance(reply, stop); });
  }
  Result<idl::PoolStatus> Scrub(bool stop) override {
    return Ask<idl::PoolStatus>([&](auto& service, auto& reply) { service.scrub(reply, stop); });
  }
  Result<idl::FsckReport> Fsck(const idl::FsckArgs& args) override {
    return Ask<idl::FsckReport>([&](auto& service, auto& reply) { service.fsck(reply, args); }, kFsckMs);
  }
  Status EvictSession(int64_t session, bool host_is_off) override {
    return WithHint(
        client_.Call([&](idl::AdminServiceClient& service) { service.evictSession(session, host_is_off); }));
  }

 private:
  template <typename Reply, typename F>
  Result<Reply> Ask(F&& call, int reply_ms = 0) {
    Result<Reply> reply = client_.Call(
        [&](idl::AdminServiceClient& service) {
          Reply answer;
          call(service, answer);
          return answer;
        },
        reply_ms);
    if (!reply.ok()) return WithHint(reply.status());
    return reply;
  }

  RpcClient<idl::AdminServiceClient> client_;
};

}  // namespace

std::unique_ptr<Admin> MakeAdmin(const Address& server) { return std::make_unique<ThriftAdmin>(server); }

}  // namespace weft::ctl
