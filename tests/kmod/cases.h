// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace weft::kmod_test {

struct Case {
  const char* name;
  std::function<void()> run;
};

std::vector<Case> DeviceCases();  // device_cases.cc: /dev/weft without a mount
std::vector<Case> MountCases();   // mount_cases.cc: a mount and its agent
std::vector<Case> ChunkCases();   // chunk_cases.cc: maps that change, targets that lose writes
std::vector<Case> DirectCases();  // direct_cases.cc: targets whose block device the module uses itself
std::vector<Case> OpenCases();    // open_cases.cc: open chunks
std::vector<Case> SpaceCases();   // space_cases.cc: grants, numbers of copies

// A file of /sys/fs/weft, without the newline; empty when it is not there.
inline std::string Sysfs(const std::string& name) {
  std::string line;
  std::ifstream file("/sys/fs/weft/" + name);
  std::getline(file, line);
  return line;
}

inline bool SysfsHas(const std::string& name) { return std::filesystem::exists("/sys/fs/weft/" + name); }

// Polls every few milliseconds for at most ten seconds.
bool Eventually(const std::function<bool()>& condition);

}  // namespace weft::kmod_test
