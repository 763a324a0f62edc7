// Bulk tensor copies: boxes of a tensor that a tensor map describes.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/emulator/exec/async/handlers.h"
#include "runtime/emulator/exec/async/spec.h"
#include "runtime/emulator/exec/async/state.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMapAlignment = 64;
constexpr std::uint64_t kBoxAlignment = 128;

[[noreturn]] void fail_at(const AsyncIssue& issue, const std::string& what) {
  fault(*issue.warp, *issue.at, issue.lane, what);
}

// A generic address of the parameters, or of global or constant memory.
TensorMapSpec map_at(const AsyncIssue& issue, std::uint64_t address) {
  if (address % kMapAlignment != 0)
    fail_at(issue, fmt::format("names a tensor map at 0x{:x}, which {} does not divide", address, kMapAlignment));
  const std::byte* const parameters = issue.warp->block->launch->parameters;
  const std::uint64_t parameter_bytes = issue.warp->program->parameter_bytes;
  std::byte bytes[sizeof(TensorMap)];
  const std::uint64_t offset = address - reinterpret_cast<std::uint64_t>(parameters);
  if (offset < parameter_bytes && sizeof(bytes) <= parameter_bytes - offset) {
    std::memcpy(bytes, parameters + offset, sizeof(bytes));
  } else {
    check_async(issue, AsyncAccess::read, {nullptr, address}, sizeof(bytes));
    async_read(issue, {nullptr, address}, sizeof(bytes), bytes);
  }
  const auto map = decode_tensor_map(bytes);
  if (!map)
    fail_at(issue, fmt::format("names a tensor map at 0x{:x}, where there is none that this device encoded", address));
  return *map;
}

// Operands: address 0 the map, behind the addresses the coordinates.
std::shared_ptr<const TensorBox> box_of(const AsyncIssue& issue, const AsyncOperands& operands, int first_coordinate,
                                        TensorBox::Border border = TensorBox::Border::elements) {
  const TensorMapSpec map = map_at(issue, operands.address(0, issue.lane));
  const int rank = operands.spec.size;
  if (map.rank != rank)
    fail_at(issue, fmt::format("copies a box of {} dimensions through a tensor map of {}", rank, map.rank));
  TensorBox::Corner corner{};
  for (int i = 0; i < rank; ++i)
    corner[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(operands.narrow(first_coordinate + i, issue.lane));
  const std::int64_t first_byte = std::int64_t{corner[0]} * tensor_map_type_bytes(map.type);
  if (first_byte % static_cast<std::int64_t>(kTensorChunk) != 0) {
    fail_at(issue, fmt::format(
                       "copies a box whose innermost coordinate is {}, {} bytes: must be a multiple of {} (a GPU stops "
                       "with an illegal instruction)",
                       corner[0], first_byte, kTensorChunk));
  }
  return std::make_shared<const TensorBox>(map, corner, border);
}

AsyncPlace shared_side(const AsyncIssue& issue, const AsyncOperands& operands, Space space) {
  const SharedPlace place = find_shared(*issue.warp, *issue.at, issue.lane, space, operands.address(1, issue.lane));
  if (place.offset % kBoxAlignment != 0)
    fail_at(issue, fmt::format("copies a box at {}, which {} does not divide", shared_name(*place.block, place.offset),
                               kBoxAlignment));
  return {place.block, place.offset};
}

// Bounds and sectors of the rows inside the tensor.
void check_rows(const AsyncIssue& issue, AsyncAccess access, const TensorBox& box) {
  std::vector<AsyncRun> runs;
  for (std::uint64_t number = 0; number < box.rows(); ++number) {
    const auto row = box.row(number);
    if (!row) continue;
    check_async(issue, access, {nullptr, row->address}, row->bytes);
    runs.push_back({row->address, row->bytes});
  }
  count_async_sectors(issue, access, runs);
}

// Calls visit(offset in the box, offset in shared memory behind its address, bytes) for pieces of a row that stay
// together.
template <typename Visit>
void visit_pieces(const TensorBox& box, std::uint64_t shared_address, const BoxRow& row, Visit visit) {
  if (box.map().swizzle == TensorMapSwizzle::none) return visit(row.box_offset, row.box_offset, row.bytes);
  const std::uint64_t end = row.box_offset + row.bytes;
  for (std::uint64_t at = row.box_offset; at < end;) {
    const std::uint64_t bytes = std::min(end, (at / kTensorChunk + 1) * kTensorChunk) - at;
    visit(at, box.place(shared_address, at), bytes);
    at += bytes;
  }
}

// Calls visit(offset in the box, offset in shared memory, bytes) for all of the box, in the largest pieces that have no
// gaps between them; the order inside a piece is the swizzle's.
template <typename Visit>
void visit_shared(const TensorBox& box, std::uint64_t shared_address, Visit visit) {
  if (box.dense()) return visit(0, 0, box.bytes());
  for (std::uint64_t at = 0; at < box.bytes(); at += kTensorChunk)
    visit(at, box.place(shared_address, at), kTensorChunk);
}

template <typename Visit>
void visit_rows(const TensorBox& box, Visit visit) {
  for (std::uint64_t number = 0; number < box.rows(); ++number) {
    if (const auto row = box.row(number)) visit(*row);
  }
}

Type element_type(TensorMapType type) {
  switch (type) {
    case TensorMapType::u8: return Type::u8;
    case TensorMapType::u16: return Type::u16;
    case TensorMapType::u32: return Type::u32;
    case TensorMapType::s32: return Type::s32;
    case TensorMapType::u64: return Type::u64;
    case TensorMapType::s64: return Type::s64;
    case TensorMapType::f16: return Type::f16;
    case TensorMapType::f32: return Type::f32;
    case TensorMapType::f64: return Type::f64;
    case TensorMapType::bf16: return Type::bf16;
  }
  return Type::none;
}

void issue_load(const AsyncIssue& issue, const AsyncOperands& operands) {
  const AsyncSpec& spec = operands.spec;
  constexpr int kFirstCoordinate = 6;  // behind map, box and mbarrier
  BulkCopy copy;
  copy.issue = issue;
  copy.box = box_of(issue, operands, kFirstCoordinate);
  copy.bytes = copy.box->bytes();
  const AsyncPlace to = shared_side(issue, operands, spec.to);
  const SharedPlace mbarrier =
      find_shared(*issue.warp, *issue.at, issue.lane, spec.to, operands.address(2, issue.lane));
  const bool multicast = (spec.options & kMulticast) != 0;
  const std::uint16_t mask = multicast ? operands.half(kFirstCoordinate + spec.size, issue.lane) : 0;
  const std::vector<Receiver> receivers = receivers_of(issue, to, mbarrier, multicast, mask);
  for (const Receiver& receiver : receivers)
    check_async(issue, AsyncAccess::write, receiver.to, copy.box->shared_bytes());
  check_rows(issue, AsyncAccess::read, *copy.box);
  for (const Receiver& receiver : receivers) {
    BulkCopy one = copy;
    one.to = receiver.to;
    count_async_wavefronts(issue, one.bytes);
    visit_shared(*copy.box, one.to.address, [&](std::uint64_t, std::uint64_t place, std::uint64_t bytes) {
      expect_async_write({one.to.block, one.to.address + place}, bytes);
    });
    issue_bulk_copy(std::move(one), &receiver.mbarrier);
  }
}

void issue_store(const AsyncIssue& issue, const AsyncOperands& operands) {
  constexpr int kFirstCoordinate = 4;  // behind map and box
  BulkCopy copy;
  copy.issue = issue;
  copy.box = box_of(issue, operands, kFirstCoordinate, TensorBox::Border::chunks);
  copy.bytes = copy.box->bytes();
  copy.from = shared_side(issue, operands, Space::shared);
  const bool reduces = (operands.spec.options & kReduces) != 0;
  if (reduces) {
    copy.reduction = {operands.spec.op, element_type(copy.box->map().type)};
    if (!reduction_exists(copy.reduction, true))
      fail_at(issue, fmt::format("reduces elements of type {}, for which this operation does not exist",
                                 tensor_map_type_name(copy.box->map().type)));
  }
  check_async(issue, AsyncAccess::read, copy.from, copy.box->shared_bytes());
  check_rows(issue, reduces ? AsyncAccess::update : AsyncAccess::write, *copy.box);
  count_async_wavefronts(issue, copy.bytes);
  issue_bulk_copy(std::move(copy), nullptr);
}

}  // namespace

// copy.data is the box: for a load as it will lie in shared memory if it has no gaps there, else before the swizzle.
void read_tensor_copy(BulkCopy& copy) {
  const TensorBox& box = *copy.box;
  if (copy.to.block == nullptr) {
    visit_rows(box, [&](const BoxRow& row) {
      visit_pieces(box, copy.from.address, row, [&](std::uint64_t in_box, std::uint64_t place, std::uint64_t bytes) {
        async_read(copy.issue, {copy.from.block, copy.from.address + place}, bytes, copy.data.data() + in_box);
      });
    });
    return;
  }
  box.fill(copy.data.data());
  std::vector<std::byte> contents;
  visit_rows(box, [&](const BoxRow& row) {
    contents.resize(row.bytes);
    async_read(copy.issue, {nullptr, row.address}, row.bytes, contents.data());
    visit_pieces(box, copy.to.address, row, [&](std::uint64_t in_box, std::uint64_t place, std::uint64_t bytes) {
      std::memcpy(copy.data.data() + (box.dense() ? place : in_box), contents.data() + (in_box - row.box_offset),
                  bytes);
    });
  });
}

void write_tensor_copy(BulkCopy& copy) {
  if (copy.to.block != nullptr) {
    return visit_shared(
        *copy.box, copy.to.address, [&](std::uint64_t in_box, std::uint64_t place, std::uint64_t bytes) {
          async_write(copy.issue, {copy.to.block, copy.to.address + place}, bytes, copy.data.data() + in_box);
        });
  }
  visit_rows(*copy.box, [&](const BoxRow& row) {
    const std::byte* const contents = copy.data.data() + row.box_offset;
    if (copy.reduction.type != Type::none) {
      async_update(copy.issue, {nullptr, row.address}, row.bytes, contents, copy.reduction);
    } else {
      async_write(copy.issue, {nullptr, row.address}, row.bytes, contents);
    }
  });
}

void execute_tensor_load(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) { issue_load({&warp, &in, lane}, operands); });
}

void execute_tensor_store(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) { issue_store({&warp, &in, lane}, operands); });
}

// Hints: the map must be one, the memory is not touched.
void execute_tensor_prefetch(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) { box_of({&warp, &in, lane}, operands, 2); });
}

void execute_prefetch_tensormap(Warp& warp, const Instruction& in) {
  const AsyncOperands operands(warp, in);
  for_each_lane(warp, [&](int lane) {
    std::uint64_t address = operands.address(0, lane);
    if (operands.spec.from == Space::param) address += reinterpret_cast<std::uint64_t>(warp.block->launch->parameters);
    map_at({&warp, &in, lane}, address);
  });
}

}  // namespace gdnjit::emulator
