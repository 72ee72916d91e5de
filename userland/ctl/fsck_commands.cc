// SPDX-License-Identifier: MIT
//
// weftctl fsck: the metadata against itself, the chunk maps and the grants.
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "userland/ctl/command.h"
#include "userland/ctl/fsck_view.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

void FsckOptions(po::options_description_easy_init options) {
  options                                                                                       //
      ("repair", po::bool_switch(), "repair what can be repaired without losing more")          //
      ("offline", po::bool_switch(), "of a data folder that no weft-meta serves; on its host")  //
      ("data", po::value<std::string>()->value_name("DIR"), "with --offline: that folder (weft-meta --data)");
}

Result<idl::FsckReport> Run(const Context& context, const po::variables_map& vm) {
  bool offline = vm["offline"].as<bool>();
  bool repair = vm["repair"].as<bool>();
  bool data = vm.count("data") > 0;
  if (offline && !data) return Error(EINVAL, "--offline needs --data DIR");
  if (!offline && data) return Error(EINVAL, "--data is for --offline");
  if (offline) return context.world.fsck_offline(vm["data"].as<std::string>(), repair);
  idl::FsckArgs args;
  args.repair = repair;
  return context.admin()->Fsck(args);
}

Status Fsck(const Context& context, const po::variables_map& vm) {
  Result<idl::FsckReport> report = Run(context, vm);
  if (!report.ok()) return report.status();
  context.Print(FsckText(*report), FsckJson(*report));
  context.error_status = kExitProblemsLeft;
  return FsckVerdict(*report);
}

constexpr std::array kCommands = {
    Command{"fsck", "",
            "check the metadata, also while it is used; exit status 4: problems are left, 1: it could not be checked",
            FsckOptions, Fsck},
};

}  // namespace

std::span<const Command> FsckCommands() { return kCommands; }

}  // namespace weft::ctl
