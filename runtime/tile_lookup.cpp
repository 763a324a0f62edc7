#include "runtime/tile_lookup.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/support/check.h"
#include "runtime/support/log.h"

namespace gdnjit {
namespace {

using cache::TuningRecord;

// Of the field whose measured range bounds the search.
std::optional<std::int64_t> batch_of(const FieldMap& problem) {
  const auto text = find_field(problem, batch_field(problem));
  std::int64_t batch = 0;
  if (!text || !detail::parse_value(*text, batch) || batch < 1) return std::nullopt;
  return batch;
}

std::string text_without_batch(FieldMap problem) {
  const std::string batch(batch_field(problem));
  std::erase_if(problem, [&](const auto& field) { return field.first == batch; });
  return fields_text(problem);
}

// Records come from files that other versions may have written: text that cannot be read is no match.
std::optional<FieldMap> parse_or_nothing(const std::string& text) {
  try {
    return parse_fields(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// One device's usable records of a problem, by measured B.
using RecordsByBatch = std::map<std::int64_t, const TuningRecord*>;

bool goes_before(const TuningRecord& left, const TuningRecord& right) {
  return left.deployment == "graph" && right.deployment != "graph";
}

std::map<std::string, RecordsByBatch> usable_records(const std::vector<TuningRecord>& rows, const FieldMap& bucket,
                                                     cache::TuningBasis basis) {
  const std::string wanted = text_without_batch(bucket);
  std::map<std::string, RecordsByBatch> by_device;
  for (const TuningRecord& row : rows) {
    if (!row.chosen || row.status != cache::TuningStatus::ok || row.basis != basis) continue;
    const std::optional<FieldMap> problem = parse_or_nothing(row.problem);
    if (!problem || text_without_batch(*problem) != wanted) continue;
    const std::optional<std::int64_t> batch = batch_of(*problem);
    if (!batch) continue;
    const auto [place, added] = by_device[row.device].try_emplace(*batch, &row);
    if (!added && goes_before(row, *place->second)) place->second = &row;
  }
  return by_device;
}

// Distance as a ratio, so that 8 is as near to 4 as to 16.
double distance(std::int64_t left, std::int64_t right) {
  return std::abs(std::log2(static_cast<double>(left)) - std::log2(static_cast<double>(right)));
}

// nullptr outside the measured range.
const TuningRecord* nearest_inside(const RecordsByBatch& records, std::int64_t batch) {
  const auto above = records.lower_bound(batch);
  if (above == records.end()) return nullptr;
  if (above->first == batch) return above->second;
  if (above == records.begin()) return nullptr;
  const auto below = std::prev(above);
  return distance(below->first, batch) <= distance(above->first, batch) ? below->second : above->second;
}

struct Candidate {
  FieldMap tiles;
  TilesFrom from;
};

// A record of the right kind, with its place in the order; the caller finds out whether its tiles fit.
std::optional<Candidate> recorded_tiles(const cache::KernelCache& cache, const DeviceInfo& device, const Operator& op,
                                        const FieldMap& bucket) {
  const cache::TuningBasis basis = tuning_basis_of(device);
  const std::string identity = device.tuning_identity();
  const auto candidate = [](const RecordMatch& match, TilesFrom from) -> std::optional<Candidate> {
    const std::optional<FieldMap> tiles = parse_or_nothing(match.record->tiles);
    return tiles ? std::optional(Candidate{*tiles, from}) : std::nullopt;
  };

  // The exact row alone first: this look-up is on the way of every cold start.
  std::vector<TuningRecord> rows = cache.find_tuning(op.name(), fields_text(bucket), identity);
  if (const auto match = match_record(rows, bucket, basis)) {
    if (auto found = candidate(*match, TilesFrom::exact)) return found;
  }
  rows = cache.find_tuning(op.name(), "", identity);
  if (const auto match = match_record(rows, bucket, basis)) {
    if (auto found = candidate(*match, match->exact ? TilesFrom::exact : TilesFrom::bucket)) return found;
  }
  rows = cache.find_tuning(op.name(), "", "");
  std::erase_if(rows,
                [&](const TuningRecord& row) { return row.device == identity || row.arch != device.traits.arch; });
  if (const auto match = match_record(rows, bucket, basis)) return candidate(*match, TilesFrom::hint);
  return std::nullopt;
}

}  // namespace

cache::TuningBasis tuning_basis_of(const DeviceInfo& device) {
  return device.kind == DeviceKind::cuda ? cache::TuningBasis::measured : cache::TuningBasis::modelled;
}

std::optional<RecordMatch> match_record(const std::vector<TuningRecord>& rows, const FieldMap& bucket,
                                        cache::TuningBasis basis) {
  const std::optional<std::int64_t> batch = batch_of(bucket);
  if (!batch) return std::nullopt;
  const TuningRecord* best = nullptr;
  std::int64_t best_batch = 0;
  for (const auto& [device, records] : usable_records(rows, bucket, basis)) {
    const TuningRecord* found = nearest_inside(records, *batch);
    if (found == nullptr) continue;
    const std::int64_t found_batch = *batch_of(parse_fields(found->problem));
    if (best == nullptr || distance(found_batch, *batch) < distance(best_batch, *batch)) {
      best = found;
      best_batch = found_batch;
    }
  }
  if (best == nullptr) return std::nullopt;
  return RecordMatch{best, best_batch == *batch};
}

namespace {

// Puts the tiles of an operator's parts in the place of those that `tiles` has for them. A part that this device cannot
// run has none; whether that matters is the operator's affair.
FieldMap with_part_tiles(const cache::KernelCache& cache, const DeviceInfo& device, const Operator& op,
                         const FieldMap& problem, bool use_records, FieldMap tiles) {
  for (const OperatorPart& part : op.parts(problem)) {
    try {
      add_subfields(tiles, part.name, choose_tiles(cache, device, *part.op, part.problem, use_records).tiles);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
    }
  }
  return tiles;
}

}  // namespace

TileChoice choose_tiles(const cache::KernelCache& cache, const DeviceInfo& device, const Operator& op,
                        const FieldMap& problem, bool use_records) {
  const Target target{device.traits.arch};
  if (use_records) {
    if (const auto found = recorded_tiles(cache, device, op, op.tuning_bucket(problem))) {
      try {
        FieldMap tiles = with_part_tiles(cache, device, op, problem, use_records, found->tiles);
        auto instance = op.instantiate(problem, tiles, target);
        return {std::move(tiles), found->from, std::move(instance)};
      } catch (const Error& error) {
        if (error.code() != ErrorCode::invalid_argument) throw;
        warn_once("tiles of a record do not fit",
                  fmt::format("a tuning record of {} is passed over, its tiles '{}' do not serve this problem: {}; "
                              "tune again with gdn-tune tune",
                              op.name(), fields_text(found->tiles), error.what()));
      }
    }
  }
  FieldMap tiles = with_part_tiles(cache, device, op, problem, use_records, op.default_tiles(problem, device.traits));
  auto instance = op.instantiate(problem, tiles, target);
  return {std::move(tiles), TilesFrom::heuristic, std::move(instance)};
}

}  // namespace gdnjit
