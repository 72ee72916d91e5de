// SPDX-License-Identifier: MIT
//
// The Thrift services of weft-meta: each call becomes a task of the engine, a Status becomes a
// ServiceError. Called by the connections' threads.
#pragma once

#include <memory>

#include <thrift/TProcessor.h>

#include "userland/meta/engine.h"

namespace weft {

// "meta", "admin" and "target" in one processor. The engine must outlive it.
std::shared_ptr<apache::thrift::TProcessor> MakeMetaProcessor(Engine* engine, int lease_ms);

}  // namespace weft
