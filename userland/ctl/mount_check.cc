// SPDX-License-Identifier: MIT
#include "userland/ctl/mount_check.h"

#include <sys/stat.h>

#include <cerrno>

#include "thrift-gen/AdminService.h"
#include "userland/base/address.h"
#include "userland/rpc/client.h"

namespace weft {
namespace {

constexpr int kAnswerMs = 10'000;  // a person waits

}  // namespace

Status CheckMetadataServer(const std::string& cluster, const std::string& meta) {
  Result<Address> address = ParseAddress(meta, kMetaPort);
  if (!address.ok()) return address.status().Annotate("meta");
  RpcClient<idl::AdminServiceClient> admin(*address, kAdminService,
                                           {.connect_ms = kAnswerMs / 2, .reply_ms = kAnswerMs});
  Result<idl::PoolStatus> pool = admin.Call([](idl::AdminServiceClient& service) {
    idl::PoolStatus status;
    service.poolStatus(status);
    return status;
  });
  if (!pool.ok()) {
    if (!IsConnectionError(pool.status())) return pool.status();
    return Error(pool.status().code(), "{}; is weft-meta running there?", pool.status().message());
  }
  if (pool->cluster != cluster) {
    return Error(ENOENT, "metadata server {} serves cluster \"{}\", not \"{}\"", address->ToString(), pool->cluster,
                 cluster);
  }
  if (!pool->formed) {
    return Error(ENODEV, "cluster \"{}\" has no pool yet; form it with: weftctl --meta {} pool create", cluster,
                 address->ToString());
  }
  return {};
}

Status CheckMountPoint(const std::string& directory) {
  struct stat st = {};
  if (stat(directory.c_str(), &st) != 0) return Status::Errno(errno, directory);
  if (!S_ISDIR(st.st_mode)) return Error(ENOTDIR, "{} is not a directory", directory);
  return {};
}

}  // namespace weft
