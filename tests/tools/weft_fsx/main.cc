// SPDX-License-Identifier: MIT
//
// weft_fsx: random operations on files against a model in memory, in the manner of fsx.
// Exit status: 0 all agreed, 1 a difference or an error, 2 usage.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vector>

#include "tests/tools/weft_fsx/checker.h"

namespace {

using weft::test::Options;

constexpr char kUsage[] =
    "usage: weft_fsx [options] DIRECTORY\n"
    "  --seed N         of the first process, the next has N+1 ... (default: from the clock)\n"
    "  --ops N          operations of each process (2000)\n"
    "  --size BYTES     largest file (8 MiB)\n"
    "  --processes N    each on its own file (1)\n"
    "  --models DIR     also write what each file must hold to DIR, for a comparison after a remount\n"
    "  --no-direct, --no-mmap, --no-fallocate\n"
    "                   leave these operations out\n"
    "  --drop-caches    drop the caches of the whole system now and then (root)\n"
    "  --require-all    an operation that the file system does not support is an error\n"
    "  --verbose        print every operation\n";

enum Option {
  kSeed = 1,
  kOps,
  kSize,
  kProcesses,
  kModels,
  kNoDirect,
  kNoMmap,
  kNoFallocate,
  kDrop,
  kRequire,
  kVerbose
};

constexpr struct option kOptions[] = {{"seed", 1, nullptr, kSeed},        {"ops", 1, nullptr, kOps},
                                      {"size", 1, nullptr, kSize},        {"processes", 1, nullptr, kProcesses},
                                      {"models", 1, nullptr, kModels},    {"no-direct", 0, nullptr, kNoDirect},
                                      {"no-mmap", 0, nullptr, kNoMmap},   {"no-fallocate", 0, nullptr, kNoFallocate},
                                      {"drop-caches", 0, nullptr, kDrop}, {"require-all", 0, nullptr, kRequire},
                                      {"verbose", 0, nullptr, kVerbose},  {nullptr, 0, nullptr, 0}};

bool Parse(int argc, char** argv, Options* options) {
  int which;
  while ((which = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    switch (which) {
      case kSeed:
        options->seed = strtoull(optarg, nullptr, 0);
        break;
      case kOps:
        options->operations = strtoull(optarg, nullptr, 0);
        break;
      case kSize:
        options->size_max_bytes = strtoull(optarg, nullptr, 0) & ~uint64_t{4095};
        break;
      case kProcesses:
        options->processes = strtoul(optarg, nullptr, 0);
        break;
      case kModels:
        options->models_directory = optarg;
        break;
      case kNoDirect:
        options->direct = false;
        break;
      case kNoMmap:
        options->mmap = false;
        break;
      case kNoFallocate:
        options->fallocate = false;
        break;
      case kDrop:
        options->drop_caches = true;
        break;
      case kRequire:
        options->require_all = true;
        break;
      case kVerbose:
        options->verbose = true;
        break;
      default:
        return false;
    }
  }
  if (optind != argc - 1) return false;
  options->directory = argv[optind];
  return options->processes >= 1 && options->size_max_bytes >= (2 << 20);
}

bool CheckOne(const Options& options, unsigned index) {
  uint64_t seed = options.seed + index;
  weft::test::Checker checker(options, "fsx-" + std::to_string(index), seed);
  return checker.Run();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.seed = uint64_t(time(nullptr));
  if (!Parse(argc, argv, &options)) {
    fputs(kUsage, stderr);
    return 2;
  }
  printf("weft_fsx: seed %lu, %u x %lu operations\n", options.seed, options.processes, options.operations);
  fflush(stdout);
  std::vector<pid_t> children;
  for (unsigned i = 0; i < options.processes; i++) {
    pid_t child = fork();
    if (child == 0) _exit(CheckOne(options, i) ? 0 : 1);
    if (child < 0) {
      perror("fork");
      return 1;
    }
    children.push_back(child);
  }
  bool good = true;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) fprintf(stderr, "weft_fsx: a process died of signal %d\n", WTERMSIG(status));
    good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  if (good) printf("weft_fsx: all files agree\n");
  return good ? 0 : 1;
}
