// SPDX-License-Identifier: MIT
//
// What a device that is no weft target seems to hold, for the message that refuses to overwrite it.
// Pure; use from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace weft::target {

// head: the first bytes of the device. Empty: nothing that is known here.
std::string_view GuessContents(std::span<const uint8_t> head);

}  // namespace weft::target
