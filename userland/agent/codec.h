// SPDX-License-Identifier: MIT
//
// Between the kernel's metadata messages (kmod/uapi/weft.h) and those of the metadata service
// (thrift/meta.thrift): one small function for each operation and direction. Requests are checked in
// full although the kernel made them, answers because they came over the network: an answer that does
// not validate or does not fit is EIO with a message that names the field. Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kmod/uapi/weft.h"
#include "thrift-gen/meta_types.h"
#include "userland/base/status.h"

namespace weft::agent {

// A request of the kernel. MOUNT and UNMOUNT leave request.op unset: they are calls of their own.
struct MetaCall {
  uint32_t op = 0;  // WEFT_META_*
  idl::Request request;
};

// "LOOKUP"; "operation 99" is for the caller to say: unknown ones give an empty text.
std::string_view MetaOpName(uint32_t op);

// message: weft_meta_req and what follows it, exactly. Fills all but slot and seq. EINVAL names the field.
Status DecodeRequest(std::span<const std::byte> message, MetaCall* call);

// Writes the answer to a call that succeeded (reply.error 0); returns its bytes.
Result<size_t> EncodeReply(const MetaCall& call, const idl::Reply& reply, std::span<std::byte> out);
// What nextEvents tells of chunks, for the kernel.
Result<std::vector<weft_chunk>> EncodeChunks(const std::vector<idl::Chunk>& chunks);
// MOUNT's answer.
Result<size_t> EncodeMount(const idl::Session& session, std::span<std::byte> out);

}  // namespace weft::agent
