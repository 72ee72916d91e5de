// SPDX-License-Identifier: MIT
//
// writers: several processes write to one file at the same time; then every record is looked for.
//   append   each appends records of random length with O_APPEND: none torn, none lost, each writer's in order
//   ranges   each writes its own records of one file, which share blocks and pages with the neighbours'
//   mapped   the same through shared mappings
//   direct   the same with O_DIRECT, in whole blocks
// `--check` looks at a file of an earlier run again (after a remount). Exit status: 0, 1 wrong, 2 usage.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/tools/pattern.h"

namespace {

using weft::test::FillPattern;
using weft::test::PatternWord;

constexpr uint64_t kMagic = 0x77656674'7265636fULL;
constexpr uint64_t kRangeBytes = 1500;  // does not divide a block: neighbours share blocks
constexpr uint64_t kDirectBytes = 8192;

struct Run {
  std::string mode;
  std::string path;
  uint64_t writers = 4;
  uint64_t records = 500;  // of each writer
};

struct RecordHeader {
  uint64_t magic;
  uint32_t writer;
  uint32_t sequence;
  uint64_t payload_bytes;
};

bool Complain(const char* what) {
  fprintf(stderr, "writers: %s: %s\n", what, strerror(errno));
  return false;
}

uint64_t PayloadBytes(uint64_t writer, uint64_t sequence) { return PatternWord(writer + 1, sequence) % 9000; }
uint64_t Seed(uint64_t writer, uint64_t sequence) { return writer << 32 | sequence; }

bool WriteAppending(const Run& run, uint64_t writer) {
  int fd = open(run.path.c_str(), O_WRONLY | O_APPEND);
  if (fd < 0) return Complain("open");
  for (uint64_t sequence = 0; sequence < run.records; sequence++) {
    RecordHeader header{kMagic, uint32_t(writer), uint32_t(sequence), PayloadBytes(writer, sequence)};
    std::vector<uint8_t> record(sizeof header + header.payload_bytes);
    memcpy(record.data(), &header, sizeof header);
    FillPattern(Seed(writer, sequence), 0, record.data() + sizeof header, header.payload_bytes);
    if (write(fd, record.data(), record.size()) != ssize_t(record.size())) return Complain("append");
  }
  if (fsync(fd) != 0) return Complain("fsync");
  return close(fd) == 0;
}

uint64_t RangeBytes(const Run& run) { return run.mode == "direct" ? kDirectBytes : kRangeBytes; }

bool WriteRanges(const Run& run, uint64_t writer) {
  const uint64_t bytes = RangeBytes(run);
  int fd = open(run.path.c_str(), O_RDWR | (run.mode == "direct" ? O_DIRECT : 0));
  if (fd < 0) return Complain("open");
  const uint64_t total = run.writers * run.records * bytes;
  uint8_t* map = nullptr;
  if (run.mode == "mapped") {
    void* address = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return Complain("mmap");
    map = static_cast<uint8_t*>(address);
  }
  auto* record = static_cast<uint8_t*>(aligned_alloc(4096, kDirectBytes));
  for (uint64_t i = 0; i < run.records; i++) {
    // Not in order, so that extents are made here and there.
    uint64_t index = (i * 7919 + 13) % run.records;
    uint64_t offset = (index * run.writers + writer) * bytes;
    FillPattern(Seed(writer, index), 0, record, bytes);
    if (map != nullptr) {
      memcpy(map + offset, record, bytes);
    } else if (pwrite(fd, record, bytes, offset) != ssize_t(bytes)) {
      return Complain("pwrite");
    }
  }
  if (map != nullptr && msync(map, total, MS_SYNC) != 0) return Complain("msync");
  if (fsync(fd) != 0) return Complain("fsync");
  return close(fd) == 0;
}

bool ReadFile(const std::string& path, std::vector<uint8_t>* bytes) {
  int fd = open(path.c_str(), O_RDONLY);
  struct stat st {};
  if (fd < 0 || fstat(fd, &st) != 0) return Complain(path.c_str());
  bytes->resize(st.st_size);
  uint64_t done = 0;
  while (done < bytes->size()) {
    ssize_t n = read(fd, bytes->data() + done, bytes->size() - done);
    if (n <= 0) return Complain("read");
    done += n;
  }
  return close(fd) == 0;
}

bool CheckAppended(const Run& run, const std::vector<uint8_t>& bytes) {
  std::vector<uint32_t> next(run.writers, 0);
  std::vector<uint8_t> want(9000);
  uint64_t at = 0;
  while (at < bytes.size()) {
    RecordHeader header{};
    if (bytes.size() - at >= sizeof header) memcpy(&header, bytes.data() + at, sizeof header);
    if (header.magic != kMagic || header.writer >= run.writers ||
        header.payload_bytes != PayloadBytes(header.writer, header.sequence) ||
        bytes.size() - at - sizeof header < header.payload_bytes) {
      fprintf(stderr, "writers: no whole record at byte %lu of %zu\n", at, bytes.size());
      return false;
    }
    if (header.sequence != next[header.writer]++) {
      fprintf(stderr, "writers: record %u of writer %u at byte %lu, expected %u\n", header.sequence, header.writer, at,
              next[header.writer] - 1);
      return false;
    }
    FillPattern(Seed(header.writer, header.sequence), 0, want.data(), header.payload_bytes);
    if (memcmp(want.data(), bytes.data() + at + sizeof header, header.payload_bytes) != 0) {
      fprintf(stderr, "writers: record %u of writer %u at byte %lu has wrong contents\n", header.sequence,
              header.writer, at);
      return false;
    }
    at += sizeof header + header.payload_bytes;
  }
  for (uint64_t writer = 0; writer < run.writers; writer++) {
    if (next[writer] == run.records) continue;
    fprintf(stderr, "writers: %lu records of writer %lu are lost\n", run.records - next[writer], writer);
    return false;
  }
  return true;
}

bool CheckRanges(const Run& run, const std::vector<uint8_t>& bytes) {
  const uint64_t length = RangeBytes(run);
  if (bytes.size() != run.writers * run.records * length) {
    fprintf(stderr, "writers: the file has %zu bytes, want %lu\n", bytes.size(), run.writers * run.records * length);
    return false;
  }
  std::vector<uint8_t> want(length);
  for (uint64_t i = 0; i < run.writers * run.records; i++) {
    FillPattern(Seed(i % run.writers, i / run.writers), 0, want.data(), length);
    if (memcmp(want.data(), bytes.data() + i * length, length) == 0) continue;
    fprintf(stderr, "writers: record %lu of writer %lu (bytes %lu..%lu) has wrong contents\n", i / run.writers,
            i % run.writers, i * length, (i + 1) * length - 1);
    return false;
  }
  return true;
}

bool Check(const Run& run) {
  std::vector<uint8_t> bytes;
  if (!ReadFile(run.path, &bytes)) return false;
  return run.mode == "append" ? CheckAppended(run, bytes) : CheckRanges(run, bytes);
}

bool WriteAll(const Run& run) {
  int fd = open(run.path.c_str(), O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (fd < 0) return Complain(run.path.c_str());
  if (run.mode == "mapped" && ftruncate(fd, run.writers * run.records * kRangeBytes) != 0) return Complain("ftruncate");
  close(fd);
  std::vector<pid_t> children;
  for (uint64_t writer = 0; writer < run.writers; writer++) {
    pid_t child = fork();
    if (child == 0) _exit((run.mode == "append" ? WriteAppending(run, writer) : WriteRanges(run, writer)) ? 0 : 1);
    if (child < 0) return Complain("fork");
    children.push_back(child);
  }
  bool good = true;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) good = false;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  bool check_only = argc > 1 && strcmp(argv[1], "--check") == 0;
  int first = check_only ? 2 : 1;
  if (argc - first < 2 || argc - first > 4) {
    fprintf(stderr, "usage: writers [--check] append|ranges|mapped|direct FILE [WRITERS [RECORDS]]\n");
    return 2;
  }
  Run run{argv[first], argv[first + 1]};
  if (argc - first > 2) run.writers = strtoull(argv[first + 2], nullptr, 0);
  if (argc - first > 3) run.records = strtoull(argv[first + 3], nullptr, 0);
  if (run.mode != "append" && run.mode != "ranges" && run.mode != "mapped" && run.mode != "direct") {
    fprintf(stderr, "writers: no mode '%s'\n", run.mode.c_str());
    return 2;
  }
  // 7919 must not divide the number of records, or the order of WriteRanges would leave some out.
  if (run.records == 0 || run.records % 7919 == 0) run.records++;
  if (!check_only && !WriteAll(run)) return 1;
  return Check(run) ? 0 : 1;
}
