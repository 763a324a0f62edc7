// Small kernels on the emulator: compiled by NVRTC or written as PTX, run over vectors.
#pragma once

#include <gdnjit/error.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codegen/nvrtc_compiler.h"
#include "runtime/device.h"
#include "runtime/emulator/emulator_device.h"

namespace gdnjit::tests {

// NVRTC as this machine has it.
Compiler& nvrtc();

// PTX of a kernel, cached for the process. Throws Error(compile_failed) with the log.
const std::string& compile_ptx(const std::string& source, const std::string& entry, const std::string& arch = "sm_90a",
                               bool line_info = false);

// A module around one kernel's body: parameters `.u64 a, .u64 b, .u64 c, .u64 d` are in %rd1..%rd4 (global addresses),
// and %rd1..%rd4 already point to this thread's element of `width` bytes. Registers: %p<20> %rs<40> %r<40> %rd<40>
// %f<40> %fd<20>.
std::string ptx_kernel(const std::string& body, int width_a, int width_b, int width_c, int width_d = 4,
                       const std::string& target = "sm_90");

// A module with the body verbatim and two pointers `.u64 a, .u64 b` in %rd1, %rd2.
std::string ptx_module(const std::string& body, const std::string& declarations = "");

// A device, one per architecture and process.
Device& emulator(const std::string& arch = "sm_90a");

// A device buffer with contents.
template <typename T>
DeviceBuffer upload(Device& device, const std::vector<T>& values, const std::string& name = "buffer") {
  DeviceBuffer buffer(device, values.size() * sizeof(T), name);
  device.copy_in(buffer.data(), values.data(), buffer.bytes(), nullptr);
  return buffer;
}
template <typename T>
std::vector<T> download(Device& device, const DeviceBuffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  device.copy_out(values.data(), buffer.data(), buffer.bytes(), nullptr);
  return values;
}

// Parameters one behind the other, each aligned to its size.
template <typename... Args>
std::vector<std::byte> parameter_block(const Args&... args) {
  std::vector<std::byte> block;
  const auto append = [&block](const auto& value) {
    while (block.size() % alignof(std::remove_cvref_t<decltype(value)>) != 0) block.push_back(std::byte{0});
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    block.insert(block.end(), bytes, bytes + sizeof(value));
  };
  (append(args), ...);
  return block;
}

struct Launch {
  std::uint32_t blocks = 1;
  std::uint32_t threads = 32;
  std::uint32_t shared_bytes = 0;
  std::vector<BufferRange> buffers = {};
  std::uint32_t cluster = 1;
  bool cooperative = false;
};

// Loads and launches; returns the counters.
LaunchCounters run(Device& device, const std::string& ptx, const std::string& entry,
                   const std::vector<std::byte>& parameters, const Launch& launch = {});

// The message of the Error that `work` throws, "" if it throws none.
template <typename Work>
std::string error_text(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// One instruction over vectors: element i of the result is what the body makes of a[i], b[i], c[i].
template <typename R, typename A, typename B, typename C>
std::vector<R> map3(const std::string& body, std::vector<A> a, std::vector<B> b, std::vector<C> c) {
  Device& device = emulator();
  const std::size_t count = a.size();
  const std::size_t padded = (count + 31) / 32 * 32;
  a.resize(padded), b.resize(padded), c.resize(padded);
  const DeviceBuffer in_a = upload(device, a), in_b = upload(device, b), in_c = upload(device, c);
  const DeviceBuffer out(device, padded * sizeof(R), "result");
  const std::string ptx = ptx_kernel(body, sizeof(A), sizeof(B), sizeof(C), sizeof(R));
  run(device, ptx, "test", parameter_block(in_a.data(), in_b.data(), in_c.data(), out.data()),
      {.blocks = static_cast<std::uint32_t>(padded / 32), .threads = 32});
  std::vector<R> result = download<R>(device, out);
  result.resize(count);
  return result;
}

// Interesting floats and random bit patterns, `count` of them.
std::vector<float> sample_floats(std::size_t count, std::uint32_t seed);
std::vector<double> sample_doubles(std::size_t count, std::uint32_t seed);

template <typename T>
std::vector<T> sample_integers(std::size_t count, std::uint32_t seed) {
  std::mt19937_64 random(seed);
  const T edges[] = {T(0),
                     T(1),
                     T(2),
                     T(-1),
                     T(-2),
                     std::numeric_limits<T>::max(),
                     std::numeric_limits<T>::min(),
                     T(std::numeric_limits<T>::max() / 2),
                     T(31),
                     T(32),
                     T(33),
                     T(63),
                     T(64)};
  std::vector<T> values;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = random();
    if (bits % 4 == 0)
      values.push_back(edges[bits / 4 % std::size(edges)]);
    else
      values.push_back(static_cast<T>(static_cast<T>(random()) >> (bits / 4 % (sizeof(T) * 8))));
  }
  return values;
}

inline std::uint32_t bits(float value) {
  std::uint32_t result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}
inline float from_bits(std::uint32_t value) {
  float result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

}  // namespace gdnjit::tests
