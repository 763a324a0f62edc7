// Asynchronous operations (cp.async, bulk copies, mbarriers), as the rest of the emulator sees them.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Carries out what the block has left to do. To be called when all its warps have exited, before its memory goes.
void finish_async(Block& block);

// Why a byte of shared memory counts as unwritten: ", a cp.async into it is pending, ...", or "" if nothing
// asynchronous is the reason.
std::string describe_unwritten(const Block& block, std::uint64_t offset);

}  // namespace gdnjit::emulator
