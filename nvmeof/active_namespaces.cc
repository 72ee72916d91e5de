// SPDX-License-Identifier: MIT
#include "nvmeof/active_namespaces.h"

#include <endian.h>
#include <fcntl.h>
#include <libnvme.h>
#include <unistd.h>

#include <cerrno>

namespace weft::nvmeof {

Result<std::vector<uint32_t>> ListActiveNamespaces(const std::string& device) {
  int fd = open(device.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, device);
  nvme_ns_list list{};
  int result = nvme_identify_active_ns_list(fd, 0, &list);
  int error = errno;
  close(fd);
  if (result < 0) return Status::Errno(error, "list of namespaces");
  if (result > 0) return Error(EIO, "list of namespaces: {}", nvme_status_to_string(result, false));
  std::vector<uint32_t> nsids;
  for (uint32_t nsid : list.ns) {
    if (nsid == 0) break;
    nsids.push_back(le32toh(nsid));
  }
  return nsids;
}

}  // namespace weft::nvmeof
