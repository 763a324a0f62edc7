// A KernelCache maps a key to a binary, in one SQLite file shared by threads and processes, over read-only layers.
// Losing the file costs recompilation and nothing else, so every failure in here is a miss and one warning.
// Nothing in this room throws outward, except what the caller's own compile function throws.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/record.h"

namespace gdnjit::cache {

struct CacheOptions {
  std::filesystem::path directory;  // of the user's file; empty: memory only
  // Site and shipped files, searched in this order after the user's. "<file>#sha256=<hex>" pins the content (layer.h).
  std::vector<std::filesystem::path> read_only;
  std::int64_t size_limit_bytes = 1LL << 30;      // of the user's file; least recently used binaries go first
  std::int64_t memory_limit_bytes = 256LL << 20;  // of the records this process keeps at hand
  int lock_timeout_ms = 120'000;                  // how long to wait for another process that compiles the same key
  int busy_timeout_ms = 5'000;                    // how long to wait for another process that writes to the file
  std::function<std::int64_t()> now_unix_s;       // empty: the system's clock; tests bring their own
};

struct CacheStatistics {
  std::uint64_t memory_hits = 0;
  std::uint64_t file_hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t compiles = 0;  // compile functions run by this process
  std::uint64_t waited = 0;    // results taken from another thread or process that was compiling
  std::uint64_t corrupt = 0;   // rows or files found bad and dropped
  std::uint64_t write_failures = 0;
};

// Identifies a file cheaply, to remember which toolchain an NVRTC library is without loading it.
struct FileIdentity {
  std::string path;
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;
};
// Of the regular file at that path; nothing if there is none.
std::optional<FileIdentity> identify_file(const std::filesystem::path& file);

// Thread-safe. After fork() both processes may go on using it.
class KernelCache {
 public:
  explicit KernelCache(CacheOptions options);
  ~KernelCache();
  KernelCache(const KernelCache&) = delete;
  KernelCache& operator=(const KernelCache&) = delete;

  using BinaryPtr = std::shared_ptr<const BinaryRecord>;

  // Memory, then the user's file, then each layer. Failed compiles are found too: look at `status`. A row whose
  // checksum does not match is deleted, one with another signature is a miss.
  BinaryPtr find(const Digest& key, std::string_view signature);

  // The newest ready binary made from this request by any toolchain; for machines without NVRTC.
  BinaryPtr find_any_toolchain(const Digest& request, std::string_view signature);

  // find(), or one run of `compile` among all threads and processes that ask for this key. A compile that throws
  // reaches every waiting thread and leaves nothing behind. A failed compile is stored and returned as a record
  // with status compile_failed. Stored failures are returned without compiling again.
  BinaryPtr find_or_compile(const Digest& key, std::string_view signature,
                            const std::function<BinaryRecord()>& compile);

  // Tuning results. One that cannot be stored is kept in memory. Writes replace the row of the same (operator, problem,
  // device, deployment, basis, tiles).
  void put_tuning(const TuningRecord& record);
  // Stores `winner` and marks it as chosen among the rows of that (operator, problem, device, deployment, basis), and
  // no other.
  void choose_tuning(const TuningRecord& winner);
  // All rows whose non-empty arguments match, user's layer first.
  std::vector<TuningRecord> find_tuning(std::string_view operator_name, std::string_view problem,
                                        std::string_view device) const;

  std::optional<std::string> known_toolchain(const FileIdentity& library);
  void remember_toolchain(const FileIdentity& library, std::string_view toolchain);
  // The NVRTC library most recently remembered, if its file still is what it was.
  std::optional<std::pair<FileIdentity, std::string>> last_toolchain();

  CacheStatistics statistics() const;
  // Where the user's file is, and what is wrong with it ("" if nothing is), for `doctor`.
  std::filesystem::path file() const;
  std::string trouble() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gdnjit::cache
