// SPDX-License-Identifier: MIT
#include "nvmeof/discovery.h"

#include <libnvme.h>

#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

template <size_t kBytes>
void Fill(char (&field)[kBytes], std::string_view text, char padding) {
  memset(field, padding, kBytes);
  memcpy(field, text.data(), text.size());
}

nvmf_disc_log_entry Raw() {
  nvmf_disc_log_entry raw{};
  raw.trtype = NVMF_TRTYPE_RDMA;
  raw.subtype = NVME_NQN_NVME;
  Fill(raw.traddr, "10.0.0.1", ' ');
  Fill(raw.trsvcid, "4420", ' ');
  Fill(raw.subnqn, "nqn.2026-11.test:one", '\0');
  return raw;
}

TEST(DiscoveryEntryTest, Decodes) {
  DiscoveryEntry entry;
  ASSERT_TRUE(DecodeDiscoveryEntry(Raw(), &entry));
  EXPECT_EQ(entry.endpoint, (Endpoint{Transport::kRdma, "10.0.0.1", 4420}));
  EXPECT_EQ(entry.nqn, "nqn.2026-11.test:one");
  EXPECT_EQ(entry.kind, "nvm");

  nvmf_disc_log_entry raw = Raw();
  raw.trtype = NVMF_TRTYPE_TCP;
  raw.subtype = NVME_NQN_CURR;
  ASSERT_TRUE(DecodeDiscoveryEntry(raw, &entry));
  EXPECT_EQ(entry.endpoint.transport, Transport::kTcp);
  EXPECT_EQ(entry.kind, "discovery");
}

TEST(DiscoveryEntryTest, FieldsMayBeFull) {
  nvmf_disc_log_entry raw = Raw();
  Fill(raw.traddr, std::string(sizeof(raw.traddr), 'a'), ' ');
  DiscoveryEntry entry;
  ASSERT_TRUE(DecodeDiscoveryEntry(raw, &entry));
  EXPECT_EQ(entry.endpoint.host.size(), sizeof(raw.traddr));
  Fill(raw.subnqn, std::string(sizeof(raw.subnqn), 'x'), ' ');
  EXPECT_FALSE(DecodeDiscoveryEntry(raw, &entry));
}

TEST(DiscoveryEntryTest, LeavesOut) {
  DiscoveryEntry entry;
  nvmf_disc_log_entry raw = Raw();
  raw.trtype = NVMF_TRTYPE_FC;
  EXPECT_FALSE(DecodeDiscoveryEntry(raw, &entry));
  for (const char* port : {"", "0", "x", "4420x", "65536"}) {
    raw = Raw();
    Fill(raw.trsvcid, port, ' ');
    EXPECT_FALSE(DecodeDiscoveryEntry(raw, &entry)) << port;
  }
  raw = Raw();
  Fill(raw.subnqn, "disk", '\0');
  EXPECT_FALSE(DecodeDiscoveryEntry(raw, &entry));
  raw = Raw();
  Fill(raw.traddr, "", ' ');
  EXPECT_FALSE(DecodeDiscoveryEntry(raw, &entry));
}

TEST(ReadDiscoveryLogTest, NoDevice) {
  EXPECT_EQ(ReadDiscoveryLog("/nonexistent/nvme0").status().code(), ENOENT);
  EXPECT_FALSE(ReadDiscoveryLog("/dev/null").ok());
}

}  // namespace
}  // namespace weft::nvmeof
