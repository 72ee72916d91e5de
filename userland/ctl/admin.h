// SPDX-License-Identifier: MIT
//
// The admin service as weftctl calls it: the seam between the commands and the metadata server. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "thrift-gen/admin_types.h"
#include "userland/base/address.h"
#include "userland/base/status.h"

namespace weft::ctl {

class Admin {
 public:
  virtual ~Admin() = default;

  // Besides what the service answers (admin.thrift), each call fails with the address and a hint when the
  // server is not reached.
  virtual Result<idl::Version> Version() = 0;
  virtual Result<idl::PoolStatus> CreatePool(const idl::CreatePoolArgs& args) = 0;
  virtual Result<idl::PoolStatus> PoolStatus() = 0;
  virtual Result<idl::PoolStatus> SetPool(const idl::PoolSettings& settings) = 0;
  virtual Status EvictSession(int64_t session, bool host_is_off) = 0;
  virtual Result<idl::PoolStatus> AddTarget(const std::string& name) = 0;
  virtual Result<idl::PoolStatus> AddNvmeTarget(const idl::RegisterTargetArgs& args) = 0;
  virtual Status CheckNvmeTarget(const idl::RegisterTargetArgs& args) = 0;  // why AddNvmeTarget would be refused
  virtual Result<idl::PoolStatus> SetDataPath(const std::string& name, idl::DataPath::type path) = 0;
  virtual Result<idl::PoolStatus> DrainTarget(const std::string& name, bool cancel) = 0;
  virtual Result<idl::PoolStatus> RemoveTarget(const std::string& name, bool lost) = 0;
  virtual Result<idl::PoolStatus> Rebalance(bool stop) = 0;
  virtual Result<idl::PoolStatus> Scrub(bool stop) = 0;
  // Takes as long as the metadata is large.
  virtual Result<idl::FsckReport> Fsck(const idl::FsckArgs& args) = 0;
};

// Connects with the first call.
std::unique_ptr<Admin> MakeAdmin(const Address& server);

}  // namespace weft::ctl
