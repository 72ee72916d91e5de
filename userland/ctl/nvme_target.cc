// SPDX-License-Identifier: MIT
#include "userland/ctl/nvme_target.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/ranges.h>

#include "nvmeof/await_namespace.h"
#include "thrift-gen/meta_constants.h"
#include "userland/base/block.h"
#include "userland/base/config.h"
#include "userland/base/log.h"
#include "userland/base/uuid.h"
#include "userland/target/backing.h"

namespace weft::ctl {
namespace {

using nvmeof::Namespace;

constexpr uint64_t kZeroStep = 1ULL << 30;
constexpr size_t kShortUuid = 8;
constexpr const char* kCommand = "weftctl target add";

std::string UuidBytes(const std::array<uint8_t, 16>& id) { return {id.begin(), id.end()}; }

// Connected by this object, and no longer than it lives.
class Connection {
 public:
  explicit Connection(nvmeof::Fabric* fabric) : fabric_(fabric) {}
  ~Connection() {
    if (nqn_.empty()) return;
    if (Status s = fabric_->Disconnect(nqn_); !s.ok()) LogWarning("{}", s.message());
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Status Open(const std::vector<nvmeof::Uri>& uris, const nvmeof::HostSettings& host) {
    const std::string& nqn = uris.front().nqn;
    Result<std::vector<Namespace>> before = fabric_->Namespaces(nqn);
    if (!before.ok()) return before.status();
    if (before->empty()) nqn_ = nqn;
    for (const nvmeof::Uri& uri : uris) {
      if (Status s = fabric_->Connect(uri.endpoint, nqn, host); !s.ok()) return s;
    }
    return {};
  }

 private:
  nvmeof::Fabric* const fabric_;
  std::string nqn_;  // to be disconnected
};

// Who names no namespace means the only one. Those that are visible do not tell: the kernel makes devices of them one
// by one, in any order.
Status CheckUnambiguous(nvmeof::Fabric* fabric, const nvmeof::Uri& uri) {
  if (uri.nsid != 0) return {};
  Result<std::vector<uint32_t>> nsids = fabric->ActiveNamespaces(uri.nqn);
  if (!nsids.ok()) return nsids.status();
  if (nsids->size() <= 1) return {};
  return Error(EINVAL, "subsystem {} has the namespaces {}; say which: {}?nsid=N", uri.nqn, fmt::join(*nsids, ", "),
               uri.ToString());
}

Result<Namespace> Find(nvmeof::Fabric* fabric, const nvmeof::Uri& uri) {
  if (Status s = CheckUnambiguous(fabric, uri); !s.ok()) return s;
  auto wanted = [&uri](const Namespace& ns) { return uri.nsid == 0 || ns.nsid == uri.nsid; };
  Result<Namespace> found = nvmeof::AwaitNamespace(fabric, uri.nqn, wanted);
  if (!found.ok() && found.status().code() == ENODEV && uri.nsid != 0)
    return Error(ENODEV, "{}; nsid={} is none of them, or not for this host", found.status().message(), uri.nsid);
  return found;
}

Status Check(const Namespace& ns, uint64_t bytes_min) {
  std::string what = ns.name();
  if (ns.read_only) return Error(EROFS, "{} is read-only; export it writable", what);
  if (ns.block_bytes == 0 || ns.block_bytes > kBlockBytes || kBlockBytes % ns.block_bytes != 0) {
    return Error(EINVAL, "{} has blocks of {} bytes; weftfs writes {}: format it with smaller ones (`nvme format`)",
                 what, ns.block_bytes, kBlockBytes);
  }
  if (uint64_t data = target::AreasFor(0, target::Layout::kPlain).data; ns.bytes < data + bytes_min) {
    return Error(EINVAL, "{} has {}; {} for the label and a chunk of {} are needed: export a larger one", what,
                 FormatBytes(ns.bytes), FormatBytes(data), FormatBytes(bytes_min));
  }
  return {};
}

// Who is kept out by a reservation cannot even read what is there.
Status CheckReservation(const Namespace& ns, const NvmeTargetRequest& request, const ReservationOpener& open) {
  auto port = open(ns);
  if (!port.ok()) return port.status();
  return nvmeof::CheckUnreserved(port->get(), ns.name(), *UuidFromBytes(request.cluster_uuid));
}

// What no chunk has used reads as zeroes, so that copies of what was never written are equal.
Status ZeroData(const target::Backing& backing) {
  uint64_t from = backing.areas().data;
  uint64_t end = from + backing.capacity_bytes();
  for (uint64_t at = from; at < end; at += kZeroStep) {
    auto bytes = static_cast<off_t>(std::min(kZeroStep, end - at));
    // On a block device: WRITE ZEROES, deallocating where it can, or not at all.
    if (fallocate(backing.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), bytes) == 0)
      continue;
    if (errno == EOPNOTSUPP) {
      LogWarning("{} cannot write zeroes: a scrub may find that copies of what was never written differ",
                 backing.path());
      return {};
    }
    return Status::Errno(errno, fmt::format("zero {} at {}", backing.path(), at));
  }
  return {};
}

// Who a target is, by its label.
struct Identity {
  Uuid uuid{};
  uint64_t capacity_bytes = 0;
};
using AdmitIdentity = std::function<Status(const Identity&)>;

Result<Identity> Label(const Namespace& ns, const NvmeTargetRequest& request, const AdmitIdentity& admit) {
  bool admitted = false;
  auto before_format = [&](const Uuid& uuid, uint64_t capacity_bytes) {
    admitted = true;
    return admit({uuid, capacity_bytes});
  };
  target::BackingOptions options{.path = ns.device,
                                 .force = request.force,
                                 .layout = target::Layout::kPlain,
                                 .command = kCommand,
                                 .name = ns.name(),
                                 .before_format = before_format};
  Result<std::unique_ptr<target::Backing>> backing = target::Backing::Open(options);
  if (!backing.ok()) return backing.status();
  Identity identity{(*backing)->uuid(), (*backing)->capacity_bytes()};
  Uuid cluster = (*backing)->cluster();
  if (!IsNil(cluster) && ToBytes(cluster) != request.cluster_uuid) {
    return Error(EEXIST,
                 "{} belongs to another cluster ({}): it cannot be in two pools; if that one is no more, "
                 "zero its first MiB on the storage node",
                 ns.name(), ToString(cluster));
  }
  if (!admitted) {
    if (Status s = admit(identity); !s.ok()) return s;
  }
  if (IsNil(cluster)) {
    if (Status s = ZeroData(**backing); !s.ok()) return s;
    if (Status s = (*backing)->SetCluster(*UuidFromBytes(request.cluster_uuid)); !s.ok()) return s;
  }
  return identity;
}

// Nothing without an identifier of its own is known again.
const idl::TargetInfo* MemberOf(const NvmeTargetRequest& request, const Namespace& ns) {
  if (ns.id.none()) return nullptr;
  for (const idl::TargetInfo& member : request.members) {
    if (member.id != 0 && member.__isset.nvme && member.nvme.uuid == UuidBytes(ns.id.uuid) &&
        member.nvme.nguid == UuidBytes(ns.id.nguid)) {
      return &member;
    }
  }
  return nullptr;
}

// A member that is in use by this host is who the pool says it is.
Result<Identity> Identify(const Namespace& ns, const NvmeTargetRequest& request, const AdmitIdentity& admit) {
  Result<Identity> labelled = Label(ns, request, admit);
  if (labelled.ok() || labelled.status().code() != EBUSY) return labelled;
  const idl::TargetInfo* member = MemberOf(request, ns);
  if (member == nullptr) return labelled;
  Identity identity{*UuidFromBytes(member->uuid), static_cast<uint64_t>(member->capacity_bytes)};
  if (Status s = admit(identity); !s.ok()) return s;
  return identity;
}

idl::RegisterTargetArgs ArgsFor(const Namespace& ns, const NvmeTargetRequest& request, const Identity& identity) {
  idl::RegisterTargetArgs args;
  args.protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  args.cluster = request.cluster;
  args.uuid = ToBytes(identity.uuid);
  args.name = request.name.empty() ? "nvme-" + ToString(identity.uuid).substr(0, kShortUuid) : request.name;
  args.capacity_bytes = static_cast<int64_t>(identity.capacity_bytes);
  args.weight = static_cast<int32_t>(request.weight);
  args.zone = request.zone;
  args.cluster_uuid = request.cluster_uuid;
  idl::NvmeNamespace nvme;
  for (nvmeof::Uri uri : request.uris) {
    uri.nsid = ns.nsid;
    nvme.uris.push_back(uri.ToString());
  }
  nvme.uuid = UuidBytes(ns.id.uuid);
  nvme.nguid = UuidBytes(ns.id.nguid);
  nvme.nsid = static_cast<int32_t>(ns.nsid);
  nvme.data_path = request.data_path;
  args.__set_nvme(nvme);
  return args;
}

}  // namespace

Result<std::vector<nvmeof::Uri>> ParsePaths(const std::vector<std::string>& arguments) {
  std::vector<nvmeof::Uri> uris;
  for (const std::string& text : arguments) {
    Result<nvmeof::Uri> uri = nvmeof::ParseUri(text);
    if (!uri.ok()) return uri.status();
    if (!uris.empty() && (uri->nqn != uris.front().nqn || uri->nsid != uris.front().nsid)) {
      return Error(EINVAL, "{} is no path to the same namespace as {}; add each target by itself", text,
                   arguments.front());
    }
    uris.push_back(*uri);
  }
  return uris;
}

Result<idl::RegisterTargetArgs> PrepareNvmeTarget(nvmeof::Fabric* fabric, const nvmeof::HostSettings& host,
                                                  const NvmeTargetRequest& request,
                                                  const ReservationOpener& open_reservation, const Admission& admit) {
  Connection connection(fabric);
  if (Status s = connection.Open(request.uris, host); !s.ok()) return s;
  Result<Namespace> ns = Find(fabric, request.uris.front());
  if (!ns.ok()) return ns.status();
  if (Status s = Check(*ns, request.bytes_min); !s.ok()) return s;
  if (Status s = CheckReservation(*ns, request, open_reservation); !s.ok()) return s;
  idl::RegisterTargetArgs args;
  auto admit_identity = [&](const Identity& identity) {
    args = ArgsFor(*ns, request, identity);
    return admit(&args);
  };
  if (Result<Identity> known = Identify(*ns, request, admit_identity); !known.ok()) return known.status();
  return args;
}

}  // namespace weft::ctl
