// SPDX-License-Identifier: MIT
//
// Reservations of the kernel's NVMe host: each command goes to the block device of the namespace, which sends it by one
// of the live paths.
//
// By passthrough, not by the ioctls of <linux/pr.h>: with Linux 6.12 those never unregister (a new key of 0 is sent as
// a replacement), always ask for persistence, which not every namespace has, and do not report.
#include <fcntl.h>
#include <libnvme.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "nvmeof/reservation.h"
#include "nvmeof/sysfs.h"

namespace weft::nvmeof {
namespace {

constexpr uint32_t kRegistrantsMax = 4096;
constexpr uint32_t kFirstRegistrants = 32;

Status StatusOf(int result, const char* command) {
  if (result == 0) return {};
  if (result < 0) {
    int error = errno == EAGAIN || errno == ENODEV ? EHOSTDOWN : errno;  // no path is live
    return Status::Errno(error, command);
  }
  constexpr int kCodeMask = 0x7ff;
  constexpr int kTypeMask = 0x700;
  constexpr int kPathRelated = 0x300;
  int error = EIO;
  if ((result & kTypeMask) == kPathRelated) error = EHOSTDOWN;
  if ((result & kCodeMask) == NVME_SC_RESERVATION_CONFLICT) error = EBADE;
  if ((result & kCodeMask) == NVME_SC_INVALID_OPCODE) error = EOPNOTSUPP;
  return Error(error, "{}: {}", command, nvme_status_to_string(result, false));
}

class RealReservation final : public ReservationPort {
 public:
  RealReservation(int fd, uint32_t nsid, const HostId& host) : fd_(fd), nsid_(nsid), host_(host) {}
  ~RealReservation() override { close(fd_); }

  HostId host() const override { return host_; }

  Result<bool> Supported() override {
    nvme_id_ctrl controller{};
    if (Status s = StatusOf(nvme_identify_ctrl(fd_, &controller), "identify controller"); !s.ok()) return s;
    if ((le16toh(controller.oncs) & NVME_CTRL_ONCS_RESERVATIONS) == 0) return false;
    nvme_id_ns ns{};
    if (Status s = StatusOf(nvme_identify_ns(fd_, nsid_, &ns), "identify namespace"); !s.ok()) return s;
    persists_ = (ns.rescap & NVME_NS_RESCAP_PTPL) != 0;
    return (ns.rescap & NVME_NS_RESCAP_EAAR) != 0;
  }

  Result<ReservationReport> Report() override {
    for (uint32_t room = kFirstRegistrants; room <= kRegistrantsMax; room *= 2) {
      std::vector<uint64_t> buffer((sizeof(nvme_resv_status) + room * sizeof(nvme_registered_ctrl_ext)) / 8);
      auto* raw = reinterpret_cast<nvme_resv_status*>(buffer.data());
      nvme_resv_report_args args{};
      args.args_size = sizeof args;
      args.fd = fd_;
      args.nsid = nsid_;
      args.report = raw;
      args.len = static_cast<uint32_t>(buffer.size() * 8);
      args.eds = true;  // host ids over fabrics have 128 bits
      if (Status s = StatusOf(nvme_resv_report(&args), "reservation report"); !s.ok()) return s;
      uint32_t count = raw->regctl[0] | uint32_t{raw->regctl[1]} << 8;
      if (count <= room) return Decode(*raw, count);
    }
    return Error(EPROTO, "reservation report: more than {} registrants", kRegistrantsMax);
  }

  Status Register(uint64_t key) override { return Change(NVME_RESERVATION_RREGA_REGISTER_KEY, 0, key, false); }
  Status Replace(uint64_t key) override { return Change(NVME_RESERVATION_RREGA_REPLACE_KEY, 0, key, true); }
  Status Unregister(uint64_t key) override { return Change(NVME_RESERVATION_RREGA_UNREGISTER_KEY, key, 0, false); }
  Status Reserve(uint64_t key) override { return Acquire(NVME_RESERVATION_RACQA_ACQUIRE, key, 0); }
  Status PreemptAndAbort(uint64_t key, uint64_t other) override {
    return Acquire(NVME_RESERVATION_RACQA_PREEMPT_AND_ABORT, key, other);
  }

 private:
  static ReservationReport Decode(const nvme_resv_status& raw, uint32_t count) {
    ReservationReport report;
    report.type = static_cast<ReservationType>(raw.rtype);
    for (uint32_t i = 0; i < count; ++i) {
      const nvme_registered_ctrl_ext& from = raw.regctl_eds[i];
      Registrant registrant;
      memcpy(registrant.host.data(), from.hostid, registrant.host.size());
      registrant.key = le64toh(from.rkey);
      // a host is listed once for each of its controllers
      if (std::ranges::find(report.registrants, registrant) == report.registrants.end())
        report.registrants.push_back(registrant);
    }
    return report;
  }

  Status Change(nvme_resv_rrega action, uint64_t present, uint64_t key, bool ignore_present) {
    nvme_resv_register_args args{};
    args.args_size = sizeof args;
    args.fd = fd_;
    args.nsid = nsid_;
    args.rrega = action;
    args.crkey = present;
    args.nrkey = key;
    args.iekey = ignore_present;
    args.cptpl = persists_ ? NVME_RESERVATION_CPTPL_PERSIST : NVME_RESERVATION_CPTPL_NO_CHANGE;
    return StatusOf(nvme_resv_register(&args), "reservation register");
  }

  Status Acquire(nvme_resv_racqa action, uint64_t key, uint64_t other) {
    nvme_resv_acquire_args args{};
    args.args_size = sizeof args;
    args.fd = fd_;
    args.nsid = nsid_;
    args.racqa = action;
    args.rtype = NVME_RESERVATION_RTYPE_EAAR;
    args.crkey = key;
    args.nrkey = other;
    return StatusOf(nvme_resv_acquire(&args), "reservation acquire");
  }

  const int fd_;
  const uint32_t nsid_;
  const HostId host_;
  bool persists_ = false;  // the namespace keeps reservations when its power fails
};

// As which this host is connected: what the storage node knows it by, on all paths.
Result<HostId> ConnectedAs(const Namespace& ns) {
  std::string id;
  for (const Controller& controller : Sysfs("/sys").Controllers(ns.nqn)) {
    if (std::ranges::find(ns.paths, controller.name, &Path::controller) == ns.paths.end()) continue;
    if (!id.empty() && controller.hostid != id)
      return Error(EINVAL, "subsystem {} is connected under host ids {} and {}: disconnect one (`nvme disconnect`)",
                   ns.nqn, id, controller.hostid);
    id = controller.hostid;
  }
  if (id.empty()) return Error(ENODEV, "{} has no controller that tells this host's id", ns.name());
  return ParseUuid(id);
}

}  // namespace

Result<std::unique_ptr<ReservationPort>> OpenReservation(const Namespace& ns) {
  auto host = ConnectedAs(ns);
  if (!host.ok()) return host.status();
  int fd = open(ns.device.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, ns.device);
  return std::unique_ptr<ReservationPort>(std::make_unique<RealReservation>(fd, ns.nsid, *host));
}

}  // namespace weft::nvmeof
