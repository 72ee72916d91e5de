// SPDX-License-Identifier: MIT
#include "rdma/places.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "rdma/block_wire.h"

namespace weft::rdma {
namespace {

constexpr size_t kIdlePlacesKept = 4096;       // so that a busy place costs no allocation for each command
constexpr uint64_t kNotesBytesMax = 32 << 20;  // of places that are not tracked
constexpr uint64_t kNotesMin = 64;             // of them, however large places are
constexpr uint64_t kNotesMax = 4096;

bool Overlap(const BlockRange& a, const BlockRange& b) {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

bool Same(const BlockRange& a, const BlockRange& b) { return a.offset == b.offset && a.length == b.length; }

}  // namespace

Places::Places(FloorStore* store, uint64_t capacity_bytes, uint64_t place_bytes)
    : store_(store), capacity_bytes_(capacity_bytes) {
  if (place_bytes) SetPlaceBytes(place_bytes);
}

void Places::SetPlaceBytes(uint64_t place_bytes) {
  assert(place_bytes_ == 0 && place_bytes > 0 && place_bytes % kBlockAlign == 0);
  place_bytes_ = place_bytes;
  notes_max_ = std::clamp(kNotesBytesMax / (place_bytes / kBlockAlign / 8 + 1), kNotesMin, kNotesMax);
}

Status Places::CheckPlace(uint64_t offset) const {
  if (place_bytes_ == 0 || offset % place_bytes_ || offset / place_bytes_ >= capacity_bytes_ / place_bytes_) {
    return Error(EINVAL, "no place begins at offset {}: places of {} bytes in a data area of {}", offset, place_bytes_,
                 capacity_bytes_);
  }
  return Status::Ok();
}

Status Places::RaiseFloor(uint64_t place, uint32_t version) {
  if (Status s = store_->Raise(place, version); !s.ok()) {
    store_error_ = s.message();
    return Error(EIO, "place {}: cannot record chunk version {}: {}", place, version, s.message());
  }
  Place& at = places_[place];
  bool tracked = at.notes && at.notes->tracked;
  at.notes = Notes{.version = version, .since_raise = true, .tracked = tracked, .written = {}};
  noted_.emplace_back(place, version);
  ForgetOldNotes();
  Settle(place);  // those that wait with a smaller one are refused
  return Status::Ok();
}

void Places::ForgetOldNotes() {
  while (noted_.size() > notes_max_) {
    auto [place, version] = noted_.front();
    noted_.pop_front();
    auto found = places_.find(place);
    if (found == places_.end() || !found->second.notes) continue;
    const Notes& notes = *found->second.notes;
    if (notes.tracked || notes.version != version) continue;
    found->second.notes.reset();
    DropIfIdle(place);
  }
}

void Places::DropIfIdle(uint64_t place) {
  if (places_.size() <= kIdlePlacesKept) return;
  auto found = places_.find(place);
  if (found != places_.end() && found->second.idle()) places_.erase(found);
}

int Places::Admit(const Access& access, uint64_t* place) {
  if (place_bytes_ == 0) return ESTALE;
  const BlockRange& range = access.range;
  *place = range.offset / place_bytes_;
  if (range.length > place_bytes_ - range.offset % place_bytes_) return EINVAL;
  if (*place >= capacity_bytes_ / place_bytes_) return EINVAL;
  if (access.version == 0) return access.writes ? ESTALE : 0;
  uint32_t floor = store_->floor(*place);
  if (access.version < floor) return ESTALE;
  if (access.version == floor) return 0;
  return RaiseFloor(*place, access.version).code();
}

// ticket: of the access, if it has waited; UINT64_MAX: it is new.
bool Places::Blocked(const Place& place, const Access& access, uint64_t ticket) {
  if (place.running > 0 && place.running_version != access.version) return true;
  if (!access.writes) return false;
  return std::ranges::any_of(place.regions, [&](const Region& region) {
    return region.ticket < ticket && Overlap(region.range, access.range);
  });
}

bool Places::Grantable(const Place& place, const Region& region, uint32_t floor) {
  // Reads among them may have found their data already or not: what is locked shall not change under either.
  if (place.running > 0 && place.running_version < floor) return false;
  auto overlaps = [&](const BlockRange& range) { return Overlap(range, region.range); };
  if (std::ranges::any_of(place.writes, overlaps)) return false;
  if (std::ranges::any_of(place.regions,
                          [&](const Region& other) { return other.ticket < region.ticket && overlaps(other.range); })) {
    return false;
  }
  return std::ranges::none_of(place.waiters, [&](const Waiter& waiter) {
    return waiter.ticket < region.ticket && waiter.access.writes && overlaps(waiter.access.range);
  });
}

Places::Verdict Places::Enter(const Access& access, uint64_t waiter, int* error) {
  uint64_t number = 0;
  if (int refused = Admit(access, &number)) {
    *error = refused;
    Forget(waiter);
    return Verdict::kRefuse;
  }
  if (access.version == 0) return Verdict::kGo;
  Place& place = places_[number];
  auto waited = waiting_.empty() ? waiting_.end() : waiting_.find(waiter);
  bool is_new = waited == waiting_.end();
  if (Blocked(place, access, is_new ? UINT64_MAX : waited->second.waiter->ticket)) {
    if (is_new) {
      place.waiters.push_back({.id = waiter, .ticket = next_ticket_++, .access = access});
      waiting_[waiter] = {number, std::prev(place.waiters.end())};
    } else {
      waited->second.waiter->named = false;
    }
    return Verdict::kWait;
  }
  if (!is_new) {
    place.waiters.erase(waited->second.waiter);
    waiting_.erase(waited);
  }
  place.running++;
  place.running_version = access.version;
  if (access.writes) place.writes.push_back(access.range);
  return Verdict::kGo;
}

void Places::Leave(const Access& access, bool executed) {
  if (access.version == 0) return;
  uint64_t number = access.range.offset / place_bytes_;
  Place& place = places_.at(number);
  assert(place.running > 0 && place.running_version == access.version);
  place.running--;
  if (access.writes) {
    auto write = std::ranges::find_if(place.writes, [&](const BlockRange& r) { return Same(r, access.range); });
    assert(write != place.writes.end());
    *write = place.writes.back();
    place.writes.pop_back();
    // A write of an older version may be refused by the copy's source: it is not newer than what is there.
    if (executed && place.notes && access.version >= place.notes->version) {
      std::vector<bool>& written = place.notes->written;
      written.resize(place_bytes_ / kBlockAlign);
      uint64_t first = access.range.offset % place_bytes_ / kBlockAlign;
      std::fill_n(written.begin() + static_cast<ptrdiff_t>(first), access.range.length / kBlockAlign, true);
    }
  }
  if (place.waiters.empty() && place.regions.empty()) {
    DropIfIdle(number);
  } else if (place.running == 0 || (access.writes && !place.regions.empty())) {
    Settle(number);
  }
}

void Places::Forget(uint64_t waiter) {
  auto waited = waiting_.find(waiter);
  if (waited == waiting_.end()) return;
  uint64_t number = waited->second.place;
  places_.at(number).waiters.erase(waited->second.waiter);
  waiting_.erase(waited);
  Settle(number);
}

bool Places::NextReady(uint64_t* waiter) {
  while (!ready_.empty()) {
    *waiter = ready_.front();
    ready_.pop_front();
    if (waiting_.contains(*waiter)) return true;
  }
  return false;
}

void Places::Settle(uint64_t number) {
  Place& place = places_.at(number);
  uint32_t floor = store_->floor(number);
  for (Waiter& waiter : place.waiters) {
    if (waiter.named) continue;
    if (waiter.access.version >= floor && Blocked(place, waiter.access, waiter.ticket)) continue;
    waiter.named = true;
    ready_.push_back(waiter.id);
  }
  GrantRegions(number);
  DropIfIdle(number);
}

// Who is told that its region is locked may lock and unlock others: nothing is held over the call.
void Places::GrantRegions(uint64_t number) {
  for (;;) {
    auto found = places_.find(number);
    if (found == places_.end()) return;
    Place& place = found->second;
    uint32_t floor = store_->floor(number);
    auto region =
        std::ranges::find_if(place.regions, [&](const Region& r) { return !r.held && Grantable(place, r, floor); });
    if (region == place.regions.end()) return;
    region->held = true;
    auto locked = std::exchange(region->locked, nullptr);
    locked();
  }
}

Status Places::Track(uint64_t offset, uint32_t version, Since since) {
  if (Status s = CheckPlace(offset); !s.ok()) return s;
  uint64_t number = offset / place_bytes_;
  uint32_t floor = store_->floor(number);
  if (floor > version) {
    return Error(ESTALE, "place {}: chunk version {} is out of date, {} has been seen", number, version, floor);
  }
  if (floor < version) {
    if (Status s = RaiseFloor(number, version); !s.ok()) return s;
  }
  Place& place = places_[number];
  if (since == Since::kNow) {
    if (place.notes && place.notes->tracked) return Error(EBUSY, "place {}: other work on it is under way", number);
    place.notes = Notes{.version = version, .since_raise = floor < version, .written = {}};
  } else if (!place.notes || place.notes->version != version || !place.notes->since_raise) {
    DropIfIdle(number);
    return Error(ESTALE, "place {}: what was written there under chunk version {} is not known any more", number,
                 version);
  }
  place.notes->tracked = true;
  return Status::Ok();
}

void Places::Untrack(uint64_t offset) {
  uint64_t number = offset / place_bytes_;
  auto found = places_.find(number);
  if (found == places_.end() || !found->second.notes) return;
  Notes& notes = *found->second.notes;
  notes.tracked = false;
  if (notes.since_raise) {
    noted_.emplace_back(number, notes.version);
    ForgetOldNotes();
  } else {
    found->second.notes.reset();
    DropIfIdle(number);
  }
}

bool Places::Written(uint64_t block_offset) const {
  auto found = places_.find(block_offset / place_bytes_);
  if (found == places_.end() || !found->second.notes) return false;
  const std::vector<bool>& written = found->second.notes->written;
  return !written.empty() && written[block_offset % place_bytes_ / kBlockAlign];
}

void Places::Lock(BlockRange range, std::function<void()> locked) {
  uint64_t number = range.offset / place_bytes_;
  assert(range.length > 0 && range.length <= place_bytes_ - range.offset % place_bytes_);
  places_[number].regions.push_back({.ticket = next_ticket_++, .range = range, .locked = std::move(locked)});
  Settle(number);
}

void Places::Unlock(BlockRange range) {
  uint64_t number = range.offset / place_bytes_;
  std::vector<Region>& regions = places_.at(number).regions;
  auto region = std::ranges::find_if(regions, [&](const Region& r) { return Same(r.range, range); });
  assert(region != regions.end());
  regions.erase(region);
  Settle(number);
}

}  // namespace weft::rdma
