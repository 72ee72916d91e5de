// SPDX-License-Identifier: MIT
//
// The two HMACs of the handshake (block_wire.h).
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cassert>

#include "rdma/block_wire.h"

namespace weft::rdma {
namespace {

Proof Hmac(std::span<const uint8_t> key, std::string_view label, std::span<const uint8_t> connect,
           std::span<const uint8_t> accept) {
  std::vector<uint8_t> text(label.begin(), label.end());
  text.insert(text.end(), connect.begin(), connect.end());
  text.insert(text.end(), accept.begin(), accept.end());
  Proof proof;
  unsigned bytes = 0;
  [[maybe_unused]] const uint8_t* done =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), text.data(), text.size(), proof.data(), &bytes);
  assert(done && bytes == kProofBytes);
  return proof;
}

}  // namespace

Proof TargetProof(std::span<const uint8_t> key, std::span<const uint8_t, kConnectBytes> connect,
                  std::span<const uint8_t, kAcceptBytes> accept) {
  return Hmac(key, "weft block target", connect, accept.first(kAcceptBytes - kProofBytes));
}

Proof ClientProof(std::span<const uint8_t> key, std::span<const uint8_t, kConnectBytes> connect,
                  std::span<const uint8_t, kAcceptBytes> accept) {
  return Hmac(key, "weft block client", connect, accept);
}

bool SameProof(const Proof& a, const Proof& b) { return CRYPTO_memcmp(a.data(), b.data(), kProofBytes) == 0; }

}  // namespace weft::rdma
