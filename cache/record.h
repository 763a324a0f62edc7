// What the cache stores. Two kinds of rows in one SQLite file: binaries (with failed compiles) and tuning results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/support/digest.h"

namespace gdnjit::cache {

// DO NOT RENUMBER: stored in binaries.status. Add at the end.
enum class BinaryStatus : int { ready = 0, compile_failed = 1 };

// One compiled kernel, or one failed compile with its log. Written and read as a whole.
struct BinaryRecord {
  Digest key;      // of request and toolchain
  Digest request;  // of signature, source, options, schema: all but the toolchain
  BinaryStatus status = BinaryStatus::ready;
  std::string operator_name;
  std::string signature;  // canonical text, compared on every hit
  std::string arch;
  std::string options;    // joined by spaces
  std::string toolchain;  // "nvrtc 13.0.88"
  std::string entry;
  std::string source;  // the generated translation unit, for `explain`
  std::string ptx;
  std::vector<std::byte> cubin;
  int registers = 0;
  int static_shared_bytes = 0;
  int stack_bytes = 0;
  int spill_store_bytes = 0;
  int spill_load_bytes = 0;
  double compile_ms = 0;
  std::string log;
  std::int64_t created_unix_s = 0;
};

// DO NOT RENUMBER: stored in tuning.status. Add at the end.
enum class TuningStatus : int {
  ok = 0,
  wrong = 1,     // outputs missed the tolerance
  crashed = 2,   // a sticky error, or the worker died
  hung = 3,      // the watchdog ended it
  rejected = 4,  // the compile failed or the device refused the kernel
};

// DO NOT RENUMBER: stored in tuning.basis. Add at the end. Records of different basis are never compared.
enum class TuningBasis : int { measured = 0, modelled = 1 };

// One candidate's result for one problem on one device.
struct TuningRecord {
  std::string operator_name;
  std::string problem;  // canonical text of the tuning bucket
  std::string device;   // DeviceInfo::tuning_identity()
  std::string arch;
  std::string deployment;  // "graph" or "stream"
  std::string tiles;       // fields text: "block_v=32 lanes_k=8 ..."
  TuningBasis basis = TuningBasis::measured;
  TuningStatus status = TuningStatus::ok;
  bool chosen = false;      // the winner of its problem
  bool is_default = false;  // the heuristic choice
  double time_us = 0;       // median; a model's estimate if basis is modelled
  double spread_us = 0;     // half the distance between the 25th and 75th percentile
  int samples = 0;
  double error = 0;  // rms ratio against the reference, the worst output
  Digest key;        // of the binary measured
  std::string toolchain;
  std::string reason;  // why it was rejected, or how the winner won ("tie of 3, fixed order")
  std::int64_t created_unix_s = 0;
};

}  // namespace gdnjit::cache
