// SPDX-License-Identifier: MIT
#include "userland/meta/sessions.h"

#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/transport/TBufferTransports.h>

namespace weft {
namespace {

using apache::thrift::TException;
using apache::thrift::protocol::TCompactProtocolT;
using apache::thrift::transport::TMemoryBuffer;

std::string Serialize(const idl::Reply& reply) {
  auto buffer = std::make_shared<TMemoryBuffer>();
  TCompactProtocolT<TMemoryBuffer> protocol(buffer);
  reply.write(&protocol);
  return buffer->getBufferAsString();
}

}  // namespace

bool DecodeReply(std::string_view bytes, idl::Reply* reply) {
  try {
    std::string copy(bytes);
    auto buffer =
        std::make_shared<TMemoryBuffer>(reinterpret_cast<uint8_t*>(copy.data()), static_cast<uint32_t>(copy.size()));
    TCompactProtocolT<TMemoryBuffer> protocol(buffer);
    reply->read(&protocol);
    return true;
  } catch (const TException&) {
    return false;
  }
}

void Sessions::Load(int64_t now_ms) {
  tables_->Scan<SessionRecord>("N", [&](uint64_t id, SessionRecord record) {
    ClientSession& session = sessions_[id];
    session.record = std::move(record);
    session.renewed_ms = now_ms;
  });
  tables_->tx().Scan("L", key::End("L"), [&](std::string_view key, std::string_view value) {
    uint64_t id = 0;
    uint64_t slot = 0;
    SlotRecord record;
    idl::Reply reply;
    bool good = key::Parse(key, &id, &slot) && slot < kSessionSlots && sessions_.contains(id) &&
                SlotRecord::Decode(value, &record) && DecodeReply(record.reply, &reply);
    if (!tables_->Check(good, key)) return false;
    sessions_[id].slots[slot] = {record.seq, std::move(reply)};
    return true;
  });
}

ClientSession* Sessions::Find(uint64_t id) {
  auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : &it->second;
}

uint64_t Sessions::FindClient(const Uuid& client) const {
  for (const auto& [id, session] : sessions_) {
    if (session.record.client == client) return id;
  }
  return 0;
}

void Sessions::Add(uint64_t id, SessionRecord record, int64_t now_ms) {
  tables_->tx().Put(key::Session(id), record.Encode());
  ClientSession& session = sessions_[id];
  session.record = std::move(record);
  session.renewed_ms = now_ms;
}

void Sessions::PutRecord(uint64_t id) { tables_->tx().Put(key::Session(id), Find(id)->record.Encode()); }

void Sessions::Remove(uint64_t id) {
  ClientSession* session = Find(id);
  if (session == nullptr) return;
  for (uint32_t slot = 0; slot < kSessionSlots; ++slot) {
    if (session->slots[slot].seq > 0) tables_->tx().Delete(key::Slot(id, slot));
  }
  tables_->tx().Delete(key::Session(id));
  sessions_.erase(id);
}

void Sessions::StoreReply(uint64_t id, uint32_t slot, uint64_t seq, const idl::Reply& reply) {
  tables_->tx().Put(key::Slot(id, slot), SlotRecord{seq, Serialize(reply)}.Encode());
  Find(id)->slots[slot] = {seq, reply};
}

}  // namespace weft
