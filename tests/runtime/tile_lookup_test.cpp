#include "runtime/tile_lookup.h"

#include <doctest/doctest.h>

#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "tests/runtime/fakes.h"

using namespace gdnjit;
using cache::TuningBasis;
using cache::TuningRecord;

namespace {

const Operator& op() { return fakes::scale_operator(); }

std::string problem_text(std::int64_t batch, int columns = 64) {
  return fields_text(op().complete({{"B", std::to_string(batch)}, {"N", std::to_string(columns)}}));
}

TuningRecord record(const DeviceInfo& device, std::int64_t batch, int width) {
  TuningRecord row;
  row.operator_name = op().name();
  row.problem = problem_text(batch);
  row.device = device.tuning_identity();
  row.arch = device.traits.arch;
  row.deployment = "graph";
  row.tiles = fmt::format("width={}", width);
  row.basis = tuning_basis_of(device);
  row.chosen = true;
  row.time_us = 10;
  row.samples = 9;
  return row;
}

// A cache in memory with these rows.
struct Shelf {
  cache::KernelCache cache{cache::CacheOptions{}};

  explicit Shelf(const std::vector<TuningRecord>& rows) {
    for (const TuningRecord& row : rows) {
      cache.put_tuning(row);
      if (row.chosen) cache.choose_tuning(row);
    }
  }

  TileChoice choose(const DeviceInfo& device, std::int64_t batch, bool use_records = true) const {
    return choose_tiles(cache, device, op(), op().complete({{"B", std::to_string(batch)}}), use_records);
  }
};

std::string text(const TileChoice& choice) {
  return fmt::format("{} {}", tiles_from_text(choice.from), fields_text(choice.tiles));
}

}  // namespace

TEST_CASE("a record of this device and bucket is exact, and its instance is made") {
  const DeviceInfo h200 = fakes::gpu_info();
  const Shelf shelf({record(h200, 8, 2)});
  const TileChoice choice = shelf.choose(h200, 5);  // bucket 8
  CHECK(text(choice) == "exact width=2");
  CHECK(choice.instance->kernels()[0].signature == "fake.scale N=64 factor=2 width=2 arch=sm_90a");
}

TEST_CASE("between measured batches the nearest by ratio serves, outside the range none") {
  const DeviceInfo h200 = fakes::gpu_info();
  const Shelf shelf({record(h200, 4, 2), record(h200, 16, 4), record(h200, 256, 8)});
  CHECK(text(shelf.choose(h200, 8)) == "bucket width=2");  // 4 and 16 are equally near: the smaller
  CHECK(text(shelf.choose(h200, 32)) == "bucket width=4");
  CHECK(text(shelf.choose(h200, 128)) == "bucket width=8");
  CHECK(text(shelf.choose(h200, 2)) == "heuristic width=1");
  CHECK(text(shelf.choose(h200, 512)) == "heuristic width=1");
}

TEST_CASE("another device of the architecture gives a hint, of another architecture nothing") {
  const DeviceInfo h200 = fakes::gpu_info();
  const DeviceInfo h100 = fakes::gpu_info("NVIDIA H100");
  const DeviceInfo a100 = fakes::gpu_info("NVIDIA A100", "sm_80");
  CHECK(text(Shelf({record(h100, 8, 4), record(a100, 8, 8)}).choose(h200, 8)) == "hint width=4");
  CHECK(text(Shelf({record(h100, 4, 4), record(h100, 16, 8)}).choose(h200, 8)) == "hint width=4");
  CHECK(text(Shelf({record(a100, 8, 8)}).choose(h200, 8)) == "heuristic width=1");
  CHECK(text(Shelf({record(h100, 4, 4), record(h100, 8, 8)}).choose(h200, 32)) == "heuristic width=1");
  // A measured range is one device's: two devices do not span one together.
  CHECK(text(Shelf({record(h100, 4, 4), record(fakes::gpu_info("GH200"), 16, 8)}).choose(h200, 8)) ==
        "heuristic width=1");
}

TEST_CASE("this device's bucket goes before another device's exact record") {
  const DeviceInfo h200 = fakes::gpu_info();
  const Shelf shelf({record(fakes::gpu_info("NVIDIA H100"), 8, 8), record(h200, 4, 2), record(h200, 16, 4)});
  CHECK(text(shelf.choose(h200, 8)) == "bucket width=2");
}

TEST_CASE("measured and modelled records never serve for each other") {
  const DeviceInfo h200 = fakes::gpu_info();
  const DeviceInfo emulator = fakes::emulator_info();
  CHECK(tuning_basis_of(emulator) == TuningBasis::modelled);
  CHECK(text(Shelf({record(emulator, 8, 2)}).choose(emulator, 8)) == "exact width=2");
  CHECK(text(Shelf({record(emulator, 8, 2)}).choose(h200, 8)) == "heuristic width=1");
  CHECK(text(Shelf({record(h200, 8, 2)}).choose(emulator, 8)) == "heuristic width=1");
  TuningRecord modelled = record(h200, 8, 2);
  modelled.basis = TuningBasis::modelled;
  CHECK(text(Shelf({modelled}).choose(h200, 8)) == "heuristic width=1");
}

TEST_CASE("only chosen records that are ok count, of the same problem but for B") {
  const DeviceInfo h200 = fakes::gpu_info();
  const FieldMap bucket = op().complete({{"B", "8"}});
  TuningRecord row = record(h200, 8, 2);
  CHECK(match_record({row}, bucket, TuningBasis::measured)->exact);
  row.chosen = false;
  CHECK(!match_record({row}, bucket, TuningBasis::measured));
  row = record(h200, 8, 2);
  row.status = cache::TuningStatus::wrong;
  CHECK(!match_record({row}, bucket, TuningBasis::measured));
  row = record(h200, 8, 2);
  row.problem = problem_text(8, 128);
  CHECK(!match_record({row}, bucket, TuningBasis::measured));
  row.problem = "not fields at all";
  CHECK(!match_record({row}, bucket, TuningBasis::measured));
}

TEST_CASE("the range is that of M where a problem has tokens in place of a batch") {
  const auto row = [](const char* tokens, const char* tiles) {
    TuningRecord made = record(fakes::gpu_info(), 8, 2);
    made.problem = fmt::format("M={} E=256", tokens);
    made.tiles = tiles;
    return made;
  };
  const std::vector<TuningRecord> rows{row("1", "warps=1"), row("64", "warps=4")};
  const auto found = [&](const char* bucket) {
    return match_record(rows, parse_fields(bucket), TuningBasis::measured);
  };
  CHECK(found("M=2 E=256")->record->tiles == "warps=1");
  CHECK(found("M=32 E=256")->record->tiles == "warps=4");
  CHECK(found("M=64 E=256")->exact);
  CHECK(!found("M=128 E=256"));
  CHECK(!found("M=8 E=512"));
}

TEST_CASE("a graph timing goes before a stream timing of the same problem") {
  const DeviceInfo h200 = fakes::gpu_info();
  TuningRecord stream = record(h200, 8, 2);
  stream.deployment = "stream";
  const std::vector<TuningRecord> rows{stream, record(h200, 8, 4)};
  CHECK(match_record(rows, op().complete({{"B", "8"}}), TuningBasis::measured)->record->tiles == "width=4");
  CHECK(text(Shelf({stream}).choose(h200, 8)) == "exact width=2");
}

TEST_CASE("a record whose tiles do not fit is passed over with a warning") {
  const DeviceInfo h200 = fakes::gpu_info();
  std::string warning;
  set_warning_sink([&](std::string_view message) { warning = message; });
  CHECK(text(Shelf({record(h200, 8, 3)}).choose(h200, 8)) == "heuristic width=1");
  set_warning_sink({});
  CHECK(warning.find("width=3: must divide N=64") != std::string::npos);
}

TEST_CASE("without the use of records the heuristic answers") {
  const DeviceInfo h200 = fakes::gpu_info();
  CHECK(text(Shelf({record(h200, 8, 2)}).choose(h200, 8, false)) == "heuristic width=1");
}
