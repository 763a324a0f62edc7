#include "runtime/emulator/launch.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <utility>

#include "runtime/emulator/exec/group_runner.h"
#include "runtime/emulator/races/launch_races.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {
namespace {

void add_class(LaunchCounters& total, Class counted, std::uint64_t issued) {
  switch (counted) {
    case Class::float_arithmetic: total.float_arithmetic += issued; break;
    case Class::integer_arithmetic: total.integer_arithmetic += issued; break;
    case Class::special_function: total.special_function += issued; break;
    case Class::conversion: total.conversion += issued; break;
    case Class::tensor_core: total.tensor_core += issued; break;
    case Class::shuffle: total.shuffle += issued; break;
    case Class::control: total.control += issued; break;
    case Class::data_movement: total.data_movement += issued; break;
    case Class::global_load: total.global_load_instructions += issued; break;
    case Class::global_store: total.global_store_instructions += issued; break;
    case Class::shared_load: total.shared_load_instructions += issued; break;
    case Class::shared_store: total.shared_store_instructions += issued; break;
    case Class::local:
    case Class::other: break;
  }
}

void add_counts(LaunchCounters& total, const Program& program, const Counts& counts) {
  for (std::size_t index = 0; index < counts.issued.size(); ++index) {
    total.warp_instructions += counts.issued[index];
    total.lane_instructions += counts.lanes[index];
    add_class(total, program.instructions[index].counted, counts.issued[index]);
  }
  const LaunchCounters& memory = counts.memory;
  total.tensor_core_macs += memory.tensor_core_macs;
  total.tensor_shared_bytes += memory.tensor_shared_bytes;
  total.sectors_read += memory.sectors_read;
  total.sectors_written += memory.sectors_written;
  total.bytes_requested_read += memory.bytes_requested_read;
  total.bytes_requested_written += memory.bytes_requested_written;
  total.shared_wavefronts += memory.shared_wavefronts;
  total.shared_wavefronts_ideal += memory.shared_wavefronts_ideal;
  total.divergent_branches += memory.divergent_branches;
  total.block_barriers += memory.block_barriers;
  total.blocks += memory.blocks;
  total.warps += memory.warps;
}

void add_traffic(std::vector<BufferTraffic>& total, const RangeTable& table, const Counts& counts) {
  for (std::size_t range = 0; range < table.ranges().size(); ++range) {
    BufferTraffic& buffer = total[table.ranges()[range].buffer];
    buffer.sectors_read += counts.range_sectors_read[range];
    buffer.sectors_written += counts.range_sectors_written[range];
  }
}

using LineMap = std::map<std::pair<std::uint32_t, std::uint32_t>, LineProfile>;  // by file number and line

void add_profile(LineMap& lines, const Program& program, const Counts& counts) {
  for (std::size_t index = 0; index < counts.traffic.size(); ++index) {
    if (counts.issued[index] == 0) continue;
    const InstructionPlace& place = program.places[index];
    const bool known = place.source.line != 0;
    const std::uint32_t number = known ? place.source.line : static_cast<std::uint32_t>(place.ptx_line);
    LineProfile& line = lines[{known ? place.source.file : 0U, number}];
    if (known && place.source.file < program.files.size()) line.file = program.files[place.source.file];
    line.line = static_cast<int>(number);
    const InstructionTraffic& traffic = counts.traffic[index];
    line.warp_instructions += counts.issued[index];
    line.lane_instructions += counts.lanes[index];
    line.sectors_read += traffic.sectors_read;
    line.sectors_written += traffic.sectors_written;
    line.shared_wavefronts += traffic.shared_wavefronts;
    line.shared_wavefronts_ideal += traffic.shared_wavefronts_ideal;
    line.tensor_core_macs += traffic.tensor_core_macs;
  }
}

std::vector<LineProfile> busiest_first(const LineMap& lines) {
  std::vector<LineProfile> profile;
  for (const auto& [place, line] : lines) profile.push_back(line);
  std::stable_sort(profile.begin(), profile.end(), [](const LineProfile& a, const LineProfile& b) {
    return a.warp_instructions > b.warp_instructions;
  });
  return profile;
}

// The workers' common state. Groups of blocks are handed out in order, so when one faults, every lower one has been
// started and may still finish; the report of the lowest is kept, whatever the threads' timing.
class Grid {
 public:
  Grid(const LaunchState& launch, const ExecutionSet& set)
      : launch_(launch), set_(set), groups_(group_count(launch)), limit_(groups_) {
    for (const BufferSource& buffer : launch.ranges->buffers()) total_.traffic.push_back({.name = buffer.name});
  }

  std::uint64_t groups() const { return groups_; }

  void work() noexcept {
    std::uint64_t group = 0;
    try {
      GroupRunner runner(launch_, set_);
      while ((group = next_.fetch_add(1)) < limit_.load()) runner.run(group);
      const std::lock_guard lock(mutex_);
      add_counts(total_.counters, *launch_.program, runner.counts());
      add_traffic(total_.traffic, *launch_.ranges, runner.counts());
      add_profile(lines_, *launch_.program, runner.counts());
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (error_ == nullptr || group < limit_.load()) {
        error_ = std::current_exception();
        limit_.store(group);
      }
    }
  }

  LaunchCounts finish() {
    if (error_ != nullptr) std::rethrow_exception(error_);
    if (launch_.races != nullptr) {
      if (const auto race = launch_.races->report()) fail(ErrorCode::device_failed, "{}", *race);
    }
    total_.profile = busiest_first(lines_);
    return std::move(total_);
  }

 private:
  const LaunchState& launch_;
  const ExecutionSet& set_;
  const std::uint64_t groups_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> limit_;
  std::mutex mutex_;
  std::exception_ptr error_;
  LaunchCounts total_;
  LineMap lines_;
};

}  // namespace

LaunchCounts run_grid(const LaunchState& launch, const ExecutionSet& set, ThreadPool& pool) {
  Grid grid(launch, set);
  const auto workers = static_cast<unsigned>(std::min<std::uint64_t>(grid.groups(), pool.size()));
  pool.run(workers, [&grid](unsigned) { grid.work(); });
  return grid.finish();
}

}  // namespace gdnjit::emulator
