// A folder that goes away, and records to store.
#pragma once

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "cache/kernel_cache.h"
#include "runtime/support/log.h"

namespace gdnjit::cache::test {

class TempDir {
 public:
  // In memory if possible: the tests commit thousands of transactions, and a disk syncs each.
  TempDir() {
    const bool shm = ::access("/dev/shm", W_OK) == 0;
    const std::filesystem::path parent = shm ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string pattern = (parent / "gdnjit-cache-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) std::abort();
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Collects the warnings given while it lives.
class Warnings {
 public:
  Warnings() {
    set_warning_sink([this](std::string_view text) {
      std::lock_guard lock(mutex_);
      texts_.emplace_back(text);
    });
  }
  ~Warnings() { set_warning_sink({}); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  std::vector<std::string> texts() const {
    std::lock_guard lock(mutex_);
    return texts_;
  }
  bool mention(std::string_view word) const {
    for (const std::string& text : texts()) {
      if (text.find(word) != std::string::npos) return true;
    }
    return false;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> texts_;
};

inline std::string signature_of(int number) { return "gdn.step v1 number=" + std::to_string(number); }
inline Digest key_of(int number) { return digest_of("key " + std::to_string(number)); }
inline Digest request_of(int number) { return digest_of("request " + std::to_string(number)); }

// A record with every field set; the image and texts differ from number to number and span several pages.
inline BinaryRecord binary(int number, std::size_t image_bytes = 13'000) {
  BinaryRecord r;
  r.key = key_of(number);
  r.request = request_of(number);
  r.operator_name = "gdn.step";
  r.signature = signature_of(number);
  r.arch = "sm_90a";
  r.options = "-arch=sm_90a -std=c++20";
  r.toolchain = "nvrtc 13.0.88";
  r.entry = "gdn_step";
  r.source = "// source of " + std::to_string(number) + std::string(3'000, 's');
  r.ptx = ".version 8.5 // " + std::to_string(number) + std::string(9'000, 'p');
  r.cubin.resize(image_bytes);
  for (std::size_t i = 0; i < image_bytes; ++i) {
    r.cubin[i] = static_cast<std::byte>((i * 31 + static_cast<std::size_t>(number)) & 0xff);
  }
  r.registers = 96;
  r.static_shared_bytes = 2048;
  r.stack_bytes = 16;
  r.spill_store_bytes = 8;
  r.spill_load_bytes = 4;
  r.compile_ms = 53.25;
  r.log = "ptxas info: " + std::to_string(number);
  r.created_unix_s = 1'700'000'000 + number;
  return r;
}

inline TuningRecord tuning(const std::string& problem, const std::string& tiles, double time_us) {
  TuningRecord r;
  r.operator_name = "gdn.step";
  r.problem = problem;
  r.device = "H200 132 SM";
  r.arch = "sm_90a";
  r.deployment = "graph";
  r.tiles = tiles;
  r.time_us = time_us;
  r.spread_us = 0.01;
  r.samples = 9;
  r.error = 1e-4;
  r.key = digest_of(tiles);
  r.toolchain = "nvrtc 13.0.88";
  r.created_unix_s = 1'700'000'000;
  return r;
}

inline bool same(const BinaryRecord& a, const BinaryRecord& b) {
  return a.key == b.key && a.request == b.request && a.status == b.status && a.operator_name == b.operator_name &&
         a.signature == b.signature && a.arch == b.arch && a.options == b.options && a.toolchain == b.toolchain &&
         a.entry == b.entry && a.source == b.source && a.ptx == b.ptx && a.cubin == b.cubin &&
         a.registers == b.registers && a.static_shared_bytes == b.static_shared_bytes &&
         a.stack_bytes == b.stack_bytes && a.spill_store_bytes == b.spill_store_bytes &&
         a.spill_load_bytes == b.spill_load_bytes && a.compile_ms == b.compile_ms && a.log == b.log &&
         a.created_unix_s == b.created_unix_s;
}

inline CacheOptions options_for(const std::filesystem::path& directory) {
  CacheOptions options;
  options.directory = directory;
  options.busy_timeout_ms = 2'000;
  return options;
}

// Asks for the record and counts the compiles.
inline KernelCache::BinaryPtr get(KernelCache& cache, int number, int* compiles = nullptr) {
  return cache.find_or_compile(key_of(number), signature_of(number), [&] {
    if (compiles) ++*compiles;
    return binary(number);
  });
}

// Stores the records 0 to count-1 and returns the file.
inline std::filesystem::path filled(const std::filesystem::path& directory, int count) {
  KernelCache cache(options_for(directory));
  for (int i = 0; i < count; ++i) get(cache, i);
  return cache.file();
}

inline std::string read_bytes(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

inline void write_bytes(const std::filesystem::path& file, std::string_view bytes) {
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  stream.close();
  ::chmod(file.c_str(), 0600);
}

// Runs SQL on a file behind the cache's back. Returns SQLite's code.
inline int sql(const std::filesystem::path& file, const std::string& text) {
  sqlite3* handle = nullptr;
  int code = sqlite3_open(file.c_str(), &handle);
  if (code == SQLITE_OK) code = sqlite3_exec(handle, text.c_str(), nullptr, nullptr, nullptr);
  sqlite3_close(handle);
  return code;
}

inline std::vector<std::filesystem::path> set_aside_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.find(".corrupt-") != std::string::npos && !name.ends_with("-journal")) found.push_back(entry.path());
  }
  return found;
}

}  // namespace gdnjit::cache::test
