// SPDX-License-Identifier: MIT
//
// Random operations on one file, each also made on a model in memory; after each the two must agree.
// The seed alone determines the operations, so a failure comes back with the same seed. One thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/tools/weft_fsx/options.h"
#include "tests/tools/weft_fsx/subject.h"

namespace weft::test {

class Checker {
 public:
  Checker(const Options& options, std::string name, uint64_t seed);
  bool Run();  // false: a difference or an error, which was printed

 private:
  struct Operation {
    const char* name;
    unsigned weight;
    void (Checker::*perform)();
    bool enabled;
  };
  struct Range {
    uint64_t offset;
    uint64_t length;
  };

  // operations
  void Read();
  void Write();
  void Append();
  void DirectRead();
  void DirectWrite();
  void MappedRead();
  void MappedWrite();
  void SpliceRead();
  void CopyRange();
  void Truncate();
  void Preallocate();
  void PunchHole();
  void ZeroRange();
  void Sync();
  void Reopen();
  void ForgetPages();
  void DropCaches();
  void WalkHoles();

  uint64_t Below(uint64_t limit);  // 0 .. limit - 1; 0 when the limit is 0
  bool OneIn(unsigned n) { return Below(n) == 0; }
  uint64_t Length();
  Range InsideFile();
  Range Anywhere();      // may reach behind the end of file, never behind the size limit
  Range AlignedRange();  // for O_DIRECT
  std::vector<uint8_t> RandomBytes(uint64_t count);

  void Note(const char* format, ...) __attribute__((format(printf, 2, 3)));
  void Fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
  // An error of an operation: true when it is only unknown to the file system.
  bool Unsupported(int64_t result);
  void ExpectCount(int64_t result, uint64_t wanted);
  void Compare(uint64_t offset, const uint8_t* got, uint64_t length);
  void ModelWrite(uint64_t offset, const std::vector<uint8_t>& bytes);
  void ModelZero(uint64_t offset, uint64_t length);
  void CheckSize();
  void CheckAll();
  void Report();
  bool SaveModel();

  const Options& options_;
  const std::string name_;
  const uint64_t seed_;
  Subject subject_;
  std::mt19937_64 random_;
  std::vector<uint8_t> model_;
  std::vector<Operation> operations_;
  Operation* current_ = nullptr;
  std::vector<std::string> log_;
  std::string failure_;
};

}  // namespace weft::test
