// SPDX-License-Identifier: MIT
//
// weftctl's commands: a table of words, options and functions, the command line that selects one, and what
// commands see of the world (all of it behind seams). One thread.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/program_options.hpp>
#include <nlohmann/json_fwd.hpp>

#include "nvmeof/fabric.h"
#include "nvmeof/reservation.h"
#include "userland/agent/settings.h"
#include "userland/balancer/bpf_host.h"
#include "userland/balancer/choice.h"
#include "userland/balancer/sysfs.h"
#include "userland/balancer/trace_recorder.h"
#include "userland/base/status.h"
#include "userland/ctl/admin.h"
#include "userland/ctl/file_copies.h"
#include "userland/ctl/wait_clock.h"
#include "userland/meta/fsck_run.h"

namespace weft::ctl {

// Of weftctl.
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitProblemsLeft = 4;  // of fsck, as fsck(8)

// The world outside of weftctl.
struct World {
  std::ostream& out;
  std::ostream& err;
  std::string meta;                        // WEFT_META, may be empty
  std::string settings_dir = "/etc/weft";  // holds CLUSTER.toml, which weftd and mount.weft read
  std::function<std::unique_ptr<Admin>(const Address&)> make_admin = MakeAdmin;
  std::function<std::unique_ptr<balancer::BpfHost>()> make_bpf_host = balancer::MakeBpfHost;
  std::function<std::unique_ptr<balancer::TraceSource>()> make_trace_source = balancer::MakeTraceSource;
  balancer::Sysfs sysfs{};
  std::string balancer_dir = balancer::kChoiceDir;  // keeps the policy that was chosen
  std::function<Result<uint32_t>(const std::string& path)> get_copies = GetFileCopies;
  std::function<Status(const std::string& path, uint32_t copies)> set_copies = SetFileCopies;
  std::function<Result<idl::FsckReport>(const std::string& data, bool repair)> fsck_offline =
      [](const std::string& data, bool repair) { return FsckOffline(data, repair); };
  std::function<std::unique_ptr<nvmeof::Fabric>()> make_fabric = nvmeof::MakeRealFabric;
  std::function<Result<std::unique_ptr<nvmeof::ReservationPort>>(const nvmeof::Namespace& ns)> open_reservation =
      nvmeof::OpenReservation;
  WaitClock clock{};
};

struct Context {
  World& world;
  Address meta;
  bool meta_given = false;      // by option, environment or settings
  std::string settings_path{};  // of this host; the file need not be there
  bool json = false;
  // Of weftctl when the command returns an error; it may choose another one before.
  mutable int error_status = kExitError;
  std::unique_ptr<Admin> admin() const { return world.make_admin(meta); }
  // What this host's file says, as far as there is one.
  Status Settings(agent::Settings* settings) const;
  // One or the other on world.out.
  void Print(const std::string& text, const nlohmann::ordered_json& as_json) const;
};

struct Command {
  std::string_view words;  // "pool create"
  // Names of its arguments, all of them mandatory: "N PATH...", where "..." is one or more. Empty: takes none.
  std::string_view arguments;
  std::string_view summary;
  void (*add_options)(boost::program_options::options_description_easy_init options);  // null: none
  Status (*run)(const Context& context, const boost::program_options::variables_map& vm);

  // The arguments that were given, as many as the command takes; the first of them.
  static std::vector<std::string> Arguments(const boost::program_options::variables_map& vm);
  static std::string Argument(const boost::program_options::variables_map& vm);
};

std::span<const Command> PoolCommands();
std::span<const Command> TargetCommands();
std::span<const Command> SessionCommands();
std::span<const Command> CopiesCommands();
std::span<const Command> FsckCommands();
std::span<const Command> BalancerCommands();
std::span<const Command> HostCommands();
std::span<const Command> NvmeCommands();

// Runs the command that `args` (without the program's name) select. Its exit status; what is wrong is on world.err:
//   0  done
//   1  the command failed, which a value of an argument or option that it does not take is too
//   2  it was not run: no such command or option, arguments missing or too many, a wrong address of the server, a
//      mistake in the settings of this host
//   4  fsck has done its work, and problems are left
int RunWeftctl(const std::vector<std::string>& args, World& world);

}  // namespace weft::ctl
