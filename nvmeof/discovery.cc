// SPDX-License-Identifier: MIT
#include "nvmeof/discovery.h"

#include <endian.h>
#include <fcntl.h>
#include <libnvme.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace weft::nvmeof {
namespace {

constexpr int kTriesMax = 10;  // a log that changes while it is read is read again

// Fields are padded with spaces or zeroes.
std::string_view Field(const char* data, size_t size) {
  std::string_view text(data, strnlen(data, size));
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

Status ReadLog(int fd, bool retain, size_t size, void* log) {
  int result = nvme_get_log_discovery(fd, retain, 0, size, log);
  if (result == 0) return {};
  if (result < 0) return Status::Errno(errno, "discovery log");
  return Error(EIO, "discovery log: {}", nvme_status_to_string(result, false));
}

// One try; into *log, which is a nvmf_discovery_log with its entries. True: it did not change meanwhile.
Result<bool> TryReadLog(int fd, std::vector<uint64_t>* log) {
  nvmf_discovery_log header{};
  if (Status status = ReadLog(fd, true, sizeof(header), &header); !status.ok()) return status;
  uint64_t entries = le64toh(header.numrec);
  if (entries > kDiscoveryEntriesMax) {
    return Error(EPROTO, "discovery log has {} entries, {} is the most", entries, kDiscoveryEntriesMax);
  }
  size_t size = sizeof(header) + entries * sizeof(nvmf_disc_log_entry);
  log->assign((size + 7) / 8, 0);
  if (Status status = ReadLog(fd, false, size, log->data()); !status.ok()) return status;
  auto* read = reinterpret_cast<nvmf_discovery_log*>(log->data());
  return read->genctr == header.genctr && read->numrec == header.numrec;
}

Result<std::vector<DiscoveryEntry>> ReadEntries(int fd) {
  std::vector<uint64_t> log;
  for (int i = 0; i < kTriesMax; ++i) {
    auto steady = TryReadLog(fd, &log);
    if (!steady.ok()) return steady.status();
    if (!*steady) continue;
    std::vector<DiscoveryEntry> entries;
    auto* read = reinterpret_cast<const nvmf_discovery_log*>(log.data());
    for (uint64_t j = 0; j < le64toh(read->numrec); ++j) {
      DiscoveryEntry entry;
      if (DecodeDiscoveryEntry(read->entries[j], &entry)) entries.push_back(std::move(entry));
    }
    return entries;
  }
  return Error(EPROTO, "discovery log has changed {} times while it was read", kTriesMax);
}

}  // namespace

Result<std::vector<DiscoveryEntry>> ReadDiscoveryLog(const std::string& device) {
  int fd = open(device.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, device);
  auto entries = ReadEntries(fd);
  close(fd);
  return entries;
}

bool DecodeDiscoveryEntry(const nvmf_disc_log_entry& raw, DiscoveryEntry* entry) {
  if (raw.trtype != NVMF_TRTYPE_RDMA && raw.trtype != NVMF_TRTYPE_TCP) return false;
  entry->endpoint.transport = raw.trtype == NVMF_TRTYPE_RDMA ? Transport::kRdma : Transport::kTcp;
  entry->endpoint.host = Field(raw.traddr, sizeof(raw.traddr));
  entry->nqn = Field(raw.subnqn, sizeof(raw.subnqn));
  entry->kind = raw.subtype == NVME_NQN_NVME ? "nvm" : "discovery";
  std::string_view port = Field(raw.trsvcid, sizeof(raw.trsvcid));
  auto [end, err] = std::from_chars(port.data(), port.data() + port.size(), entry->endpoint.port);
  bool is_port = err == std::errc() && end == port.data() + port.size() && entry->endpoint.port != 0;
  return is_port && !entry->endpoint.host.empty() && CheckNqn(entry->nqn).ok();
}

}  // namespace weft::nvmeof
