#include "runtime/emulator/races/shadow.h"

#include <algorithm>
#include <bit>

namespace gdnjit::emulator {
namespace {

Scope scope_of(std::uint8_t flags) { return static_cast<Scope>(flags >> kScopeShift & 3); }

Stamp known(const Accessor& accessor, const Clock* clock, std::uint32_t group, std::uint32_t index) {
  if (clock == nullptr) return 0;
  return group == accessor.group ? clock->at(index) : clock->foreign_at(group, index);
}

// Does an access of thread or agent `index` at `stamp` happen before `thread` goes on?
bool ordered(const Accessor& accessor, std::uint32_t thread, std::uint32_t group, std::uint32_t index, Stamp stamp) {
  if (group == accessor.group && index == thread) return true;
  const std::uint32_t lane = thread - accessor.thread;
  if (accessor.copy_agent != 0 && group == accessor.group && index == accessor.copy_agent + lane)
    return accessor.copied[lane] >= stamp;
  return known(accessor, accessor.clock, group, index) >= stamp;
}

// An access of the async proxy to what was written through the generic proxy needs a fence between them.
bool is_hidden(const Accessor& accessor, std::uint32_t thread, std::uint32_t group, const Who& write, Stamp stamp) {
  if ((accessor.flags & kAsyncProxy) == 0 || (write.flags & kAsyncProxy) != 0) return false;
  const std::uint32_t lane = thread - accessor.thread;
  if (group == accessor.group && write.index == thread) return accessor.visible_own < stamp;
  if (group == accessor.group && accessor.copy_agent != 0 && write.index == accessor.copy_agent + lane)
    return accessor.copied_visible[lane] < stamp;
  return known(accessor, accessor.visible, group, write.index) < stamp;
}

bool all_ordered(const Accessor& accessor, std::uint32_t group, std::uint32_t index, std::uint8_t spread, Stamp stamp) {
  const Clock* clock = accessor.clock;
  if (clock == nullptr) return false;
  const std::uint32_t count = 1U << spread;
  if (group != accessor.group) {
    for (std::uint32_t k = 0; k < count; ++k) {
      if (clock->foreign_at(group, index + k) < stamp) return false;
    }
    return true;
  }
  if (index + count > clock->stamps.size()) return false;
  const Stamp* stamps = clock->stamps.data() + index;
  std::uint32_t late = 0;
  for (std::uint32_t k = 0; k < count; ++k) late |= static_cast<std::uint32_t>(stamps[k] < stamp);
  return late == 0;
}

// Atomics and their like do not race with each other if each other's scope includes them.
bool both_strong(const Accessor& accessor, std::uint32_t group, const Who& who) {
  if ((accessor.flags & who.flags & kStrong) == 0) return false;
  Scope needed = Scope::gpu;
  if (group == accessor.group) {
    const bool same_block = who.thread / accessor.block_threads == accessor.thread / accessor.block_threads;
    needed = same_block ? Scope::cta : accessor.peer_scope;
  }
  return std::min(scope_of(accessor.flags), scope_of(who.flags)) >= needed;
}

// Part number `part` of 2^from, as one of 2^to.
std::uint32_t scaled(std::uint32_t part, int from, int to) {
  return to >= from ? part << (to - from) : part >> (from - to);
}

Who member(Who who, std::uint32_t k) {
  who.thread += k;
  who.index += k;
  who.spread = 0;
  return who;
}

}  // namespace

ShadowRegion::Touch ShadowRegion::touch(const AccessSpan& span, std::uint64_t cell) const {
  const int lowest = std::countr_zero(span.lanes);
  if (span.width == 0) return {span.lanes, lowest, 0};
  const std::uint64_t into = (cell << shift_) - span.begin % kBytes;
  const int first = lowest + static_cast<int>(into / span.width);
  if (span.width >= 1ULL << shift_) return {1U << first, first, 0};
  const auto spread = static_cast<std::uint8_t>(shift_ - std::countr_zero(span.width));
  return {(spread == 5 ? ~0U : (1U << (1U << spread)) - 1) << first, first, spread};
}

void ShadowRegion::divide(int shift) {
  const int depth = shift_ - shift;
  const auto part_of = [depth](Who who, std::uint32_t part, std::uint32_t& skipped) {
    if (who.spread >= depth) {
      skipped = part << (who.spread - depth);
      who.spread = static_cast<std::uint8_t>(who.spread - depth);
    } else {
      skipped = part >> (depth - who.spread);
      who.spread = 0;
    }
    return who;
  };
  std::vector<WriteCell> writes;
  writes.reserve(writes_.size() << depth);
  for (const WriteCell& cell : writes_) {
    for (std::uint32_t part = 0; part < 1U << depth; ++part) {
      WriteCell piece = cell;
      std::uint32_t skipped = 0;
      piece.last = part_of(cell.last, part, skipped);
      piece.last.thread += skipped, piece.last.index += skipped;
      piece.first = part_of(cell.first, part, skipped);
      piece.first.thread += skipped, piece.first.index += skipped;
      writes.push_back(piece);
    }
  }
  writes_ = std::move(writes);
  for (Layer& layer : layers_) {
    std::vector<ReadCell> cells;
    cells.reserve(layer.cells.size() << depth);
    for (const ReadCell& cell : layer.cells) {
      for (std::uint32_t part = 0; part < 1U << depth; ++part) {
        ReadCell piece = cell;
        std::uint32_t skipped = 0;
        piece.last = part_of(cell.last, part, skipped);
        const auto part_lanes = [&skipped](std::uint32_t lanes, const Who& who, std::uint8_t spread) {
          if (who.spread == 0) return lanes;
          return ((1U << (1U << spread)) - 1) << (static_cast<std::uint32_t>(std::countr_zero(lanes)) + skipped);
        };
        piece.lanes = part_lanes(cell.lanes, cell.last, piece.last.spread);
        piece.first = part_of(cell.first, part, skipped);
        piece.first_lanes = part_lanes(cell.first_lanes, cell.first, piece.first.spread);
        cells.push_back(piece);
      }
    }
    layer.cells = std::move(cells);
  }
  shift_ = shift;
}

void ShadowRegion::fit(const AccessSpan& span) {
  if (writes_.empty()) writes_.resize(kBytes >> shift_);
  const std::uint64_t edges = span.begin | span.bytes;
  const int fitting = std::countr_zero(edges);
  if (fitting < shift_) divide(fitting);
}

void ShadowRegion::check_write(const Accessor& accessor, const Touch& touch, std::uint64_t cell, std::uint64_t base,
                               ConflictSink& sink) const {
  const WriteCell& write = writes_[cell];
  if (write.stamp == 0) return;
  // Lanes of one store that meet are the store's business.
  if (write.stamp == accessor.stamp && write.group == accessor.group) return;
  const std::uint32_t lowest = static_cast<std::uint32_t>(touch.lowest);
  const bool single = touch.spread != 0 || (touch.lanes & (touch.lanes - 1)) == 0;
  if (write.group == accessor.group && single && write.last.spread == touch.spread &&
      write.last.index == accessor.thread + lowest && accessor.visible == nullptr &&
      (accessor.flags & kAsyncProxy) == 0) {
    return;  // program order
  }
  if ((accessor.flags & kAsyncProxy) == 0 &&
      all_ordered(accessor, write.group, write.last.index, write.last.spread, write.stamp)) {
    return;
  }
  if (both_strong(accessor, write.group, write.last)) return;
  const int finest = std::max(touch.spread, write.last.spread);
  const std::uint64_t bytes = (1ULL << shift_) >> finest;
  for (std::uint32_t part = 0; part < 1U << finest; ++part) {
    const Who earlier = member(write.last, part >> (finest - write.last.spread));
    const std::uint32_t lanes = touch.spread == 0 ? touch.lanes : 1U << (lowest + (part >> (finest - touch.spread)));
    for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      const std::uint32_t thread = accessor.thread + static_cast<std::uint32_t>(lane);
      const bool in_order = ordered(accessor, thread, write.group, earlier.index, write.stamp);
      const bool hidden = in_order && is_hidden(accessor, thread, write.group, earlier, write.stamp);
      if (in_order && !hidden) continue;
      const std::uint32_t skip = scaled(part, finest, write.first.spread);
      sink.conflict(accessor, {base + (cell << shift_) + part * bytes, true, in_order, write.group, earlier,
                               member(write.first, skip), write.first_stamp, lane});
      return;
    }
  }
}

void ShadowRegion::check_read(const Accessor& accessor, const Touch& touch, const Layer& layer, std::uint64_t cell,
                              std::uint64_t base, ConflictSink& sink) const {
  const ReadCell& read = layer.cells[cell];
  if (read.stamp == 0) return;
  const auto lowest = static_cast<std::uint32_t>(touch.lowest);
  if (layer.group == accessor.group && read.last.spread == touch.spread && read.lanes == touch.lanes &&
      layer.warp * 32 == accessor.thread && (touch.spread != 0 || (touch.lanes & (touch.lanes - 1)) == 0)) {
    return;  // program order
  }
  if (both_strong(accessor, layer.group, read.last)) return;
  const int finest = std::max(touch.spread, read.last.spread);
  const std::uint64_t bytes = (1ULL << shift_) >> finest;
  const auto first_reader = static_cast<std::uint32_t>(std::countr_zero(read.lanes));
  for (std::uint32_t part = 0; part < 1U << finest; ++part) {
    const std::uint32_t readers =
        read.last.spread == 0 ? read.lanes : 1U << (first_reader + (part >> (finest - read.last.spread)));
    const std::uint32_t lanes = touch.spread == 0 ? touch.lanes : 1U << (lowest + (part >> (finest - touch.spread)));
    for (std::uint32_t others = readers; others != 0; others &= others - 1) {
      const auto reader = static_cast<std::uint32_t>(std::countr_zero(others));
      for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        const std::uint32_t thread = accessor.thread + static_cast<std::uint32_t>(lane);
        if (ordered(accessor, thread, layer.group, layer.warp * 32 + reader, read.stamp)) continue;
        Who earlier = member(read.last, reader);
        const std::uint32_t skip = scaled(part, finest, read.first.spread);
        const Who first = member(read.first, static_cast<std::uint32_t>(std::countr_zero(read.first_lanes)) + skip);
        sink.conflict(accessor, {base + (cell << shift_) + part * bytes, layer.strong_writes, false, layer.group,
                                 earlier, first, read.first_stamp, lane});
        return;
      }
    }
  }
}

void ShadowRegion::check_reads(const Accessor& accessor, const AccessSpan& span, std::uint64_t base,
                               ConflictSink& sink) const {
  const std::uint64_t begin = span.begin % kBytes >> shift_;
  const std::uint64_t end = begin + (span.bytes >> shift_);
  for (const Layer& layer : layers_) {
    // Reads do not race with reads.
    if (!accessor.writes && !layer.strong_writes) continue;
    if (layer.latest == 0 || all_ordered(accessor, layer.group, layer.warp * 32, 5, layer.latest)) continue;
    for (std::uint64_t cell = begin; cell < end; ++cell)
      check_read(accessor, touch(span, cell), layer, cell, base, sink);
  }
}

void ShadowRegion::remember_write(const Accessor& accessor, const Touch& touch, WriteCell& cell) {
  // Of lanes that write the same bytes in one instruction, any may be the last.
  const auto lane = static_cast<std::uint32_t>(touch.lowest);
  const Who who{accessor.thread + lane, accessor.index + lane, accessor.instruction, touch.spread, accessor.flags};
  if (cell.stamp == 0 || cell.group != accessor.group) {
    cell.first = who;
    cell.first_stamp = accessor.stamp;
  }
  cell.group = accessor.group;
  cell.stamp = accessor.stamp;
  cell.last = who;
}

bool ShadowRegion::remember_read(const Accessor& accessor, const Touch& touch, Layer& layer, ReadCell& cell,
                                 int& shift) {
  const std::uint32_t base = layer.warp * 32;
  const bool same = cell.last.spread == touch.spread && cell.lanes == touch.lanes;
  std::uint32_t lanes = touch.lanes;
  if (cell.stamp != 0 && !same) {
    std::uint32_t late = 0;
    for (std::uint32_t rest = cell.lanes; rest != 0; rest &= rest - 1) {
      const std::uint32_t index = base + static_cast<std::uint32_t>(std::countr_zero(rest));
      if (known(accessor, accessor.clock, accessor.group, index) < cell.stamp) late |= rest & -rest;
    }
    if (late != 0 && (cell.last.spread != 0 || touch.spread != 0)) {
      shift = shift_ - std::max(cell.last.spread, touch.spread);
      return false;
    }
    // Reads of other lanes that are not in order with this one stay, if one stamp can stand for both.
    if (cell.stamp > accessor.released) lanes |= late;
  }
  const Who who{accessor.thread, accessor.index, accessor.instruction, touch.spread, accessor.flags};
  if (cell.stamp == 0) {
    cell.first = who;
    cell.first_stamp = accessor.stamp;
    cell.first_lanes = touch.lanes;
  }
  cell.stamp = accessor.stamp;
  cell.lanes = lanes;
  cell.last = who;
  layer.latest = std::max(layer.latest, accessor.stamp);
  return true;
}

ShadowRegion::Layer* ShadowRegion::layer_of(const Accessor& accessor, std::size_t most_layers) {
  const std::uint32_t warp = accessor.index / 32;
  for (Layer& layer : layers_) {
    if (layer.warp == warp && layer.group == accessor.group && layer.strong_writes == accessor.writes) return &layer;
  }
  Layer* place = nullptr;
  for (Layer& layer : layers_) {
    if (most_layers != 0 && layers_.size() >= most_layers &&
        all_ordered(accessor, layer.group, layer.warp * 32, 5, layer.latest)) {
      place = &layer;
    }
  }
  if (place != nullptr) {
    // Its reads are in order with whoever is in order with this one.
  } else if (most_layers != 0 && layers_.size() >= most_layers) {
    // Two groups suffice to find a conflict with any writer; the lowest two make the report the same every time.
    const auto later = [](const Layer& a, const Layer& b) {
      return a.group != b.group ? a.group < b.group : a.warp < b.warp;
    };
    place = &*std::max_element(layers_.begin(), layers_.end(), later);
    if (place->group < accessor.group || (place->group == accessor.group && place->warp < warp)) {
      const bool one_group = std::all_of(layers_.begin(), layers_.end(),
                                         [&](const Layer& layer) { return layer.group == layers_.front().group; });
      if (!one_group || layers_.front().group == accessor.group) return nullptr;
    }
  } else {
    place = &layers_.emplace_back();
  }
  place->group = accessor.group;
  place->warp = warp;
  place->strong_writes = accessor.writes;
  place->latest = 0;
  place->cells.assign(kBytes >> shift_, ReadCell{});
  return place;
}

void ShadowRegion::remember_reads(const Accessor& accessor, const AccessSpan& span, std::size_t most_layers) {
  Layer* const layer = layer_of(accessor, most_layers);
  if (layer == nullptr) return;
  const std::uint64_t begin = span.begin % kBytes;
  for (std::uint64_t at = begin; at < begin + span.bytes;) {
    const std::uint64_t cell = at >> shift_;
    int shift = shift_;
    if (!remember_read(accessor, touch(span, cell), *layer, layer->cells[cell], shift)) {
      divide(shift);
      continue;
    }
    at = (cell + 1) << shift_;
  }
}

void ShadowRegion::access(const Accessor& accessor, const AccessSpan& span, std::uint64_t base, std::size_t most_layers,
                          ConflictSink& sink) {
  unused_ = false;
  fit(span);
  const std::uint64_t begin = span.begin % kBytes >> shift_;
  const std::uint64_t end = begin + (span.bytes >> shift_);
  for (std::uint64_t cell = begin; cell < end; ++cell) check_write(accessor, touch(span, cell), cell, base, sink);
  check_reads(accessor, span, base, sink);
  if (!accessor.writes || (accessor.flags & kStrong) != 0) return remember_reads(accessor, span, most_layers);
  for (std::uint64_t cell = begin; cell < end; ++cell) remember_write(accessor, touch(span, cell), writes_[cell]);
}

void ShadowRegion::clear() {
  unused_ = true;
  std::fill(writes_.begin(), writes_.end(), WriteCell{});
  for (Layer& layer : layers_) {
    if (layer.latest == 0) continue;
    layer.latest = 0;
    std::fill(layer.cells.begin(), layer.cells.end(), ReadCell{});
  }
}

}  // namespace gdnjit::emulator
