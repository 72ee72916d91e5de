// SPDX-License-Identifier: MIT
#include "userland/ctl/admin.h"

#include "thrift-gen/AdminService.h"
#include "userland/rpc/client.h"

namespace weft::ctl {
namespace {

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
  Status EvictSession(int64_t session) override {
    return WithHint(client_.Call([&](idl::AdminServiceClient& service) { service.evictSession(session); }));
  }

 private:
  template <typename Reply, typename F>
  Result<Reply> Ask(F&& call) {
    Result<Reply> reply = client_.Call([&](idl::AdminServiceClient& service) {
      Reply answer;
      call(service, answer);
      return answer;
    });
    if (!reply.ok()) return WithHint(reply.status());
    return reply;
  }

  RpcClient<idl::AdminServiceClient> client_;
};

}  // namespace

std::unique_ptr<Admin> MakeAdmin(const Address& server) { return std::make_unique<ThriftAdmin>(server); }

}  // namespace weft::ctl
