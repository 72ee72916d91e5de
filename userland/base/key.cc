// SPDX-License-Identifier: MIT
#include "userland/base/key.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include <boost/algorithm/hex.hpp>
#include <boost/algorithm/string/trim.hpp>

namespace weft {
namespace {

std::string Hex(const uint8_t* data, size_t size) {
  std::string text;
  boost::algorithm::hex_lower(data, data + size, std::back_inserter(text));
  return text;
}

}  // namespace

Result<std::vector<uint8_t>> LoadClusterKey(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return Error(errno, "cluster key {}: {}; make one with `weftctl key generate {}` and copy it to every host", path,
                 strerrorname_np(errno), path);
  }
  struct stat st;
  std::array<char, 256> buffer;
  ssize_t n = fstat(fd, &st) == 0 ? read(fd, buffer.data(), buffer.size()) : -1;
  int error = errno;
  close(fd);
  if (n < 0) return Status::Errno(error, "cluster key " + path);
  if ((st.st_mode & 077) != 0) {
    return Error(EACCES, "cluster key {} has mode {:04o}, others may read it; chmod 0600 {}", path, st.st_mode & 07777,
                 path);
  }
  std::string text(buffer.data(), n);
  boost::algorithm::trim(text);
  std::vector<uint8_t> key;
  try {
    boost::algorithm::unhex(text, std::back_inserter(key));
  } catch (const boost::algorithm::hex_decode_error&) {
    key.clear();
  }
  if (key.size() != kClusterKeyBytes) {
    return Error(EINVAL, "cluster key {} is not {} hex digits; make one with `weftctl key generate`", path,
                 2 * kClusterKeyBytes);
  }
  return key;
}

Status GenerateClusterKey(const std::string& path) {
  std::array<uint8_t, kClusterKeyBytes> key;
  if (RAND_bytes(key.data(), key.size()) != 1) return Error(EIO, "no random bytes for a cluster key");
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return Status::Errno(errno, "cluster key " + path);
  std::string text = Hex(key.data(), key.size()) + "\n";
  bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  int error = errno;
  close(fd);
  if (!written) {
    unlink(path.c_str());
    return Status::Errno(error, "cluster key " + path);
  }
  return {};
}

std::string KeyFingerprint(const std::vector<uint8_t>& key) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(key.data(), key.size(), digest.data());
  return Hex(digest.data(), 8);
}

}  // namespace weft
