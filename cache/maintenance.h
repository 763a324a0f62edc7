// What an operator does with a cache file: look, clean, move results between machines. May run while others use the
// file. Damaged rows are left out of everything but `verify`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cache/record.h"

namespace gdnjit::cache {

struct FileSummary {
  std::filesystem::path file;
  std::int64_t file_bytes = 0;
  std::int64_t binaries = 0;
  std::int64_t failures = 0;
  std::int64_t tuning_rows = 0;
  std::int64_t binary_bytes = 0;
  std::int64_t oldest_unix_s = 0;
  std::int64_t newest_unix_s = 0;
  int schema_version = 0;
};

// A binary is dropped if any of these says so. Tuning results are small and dear: none is ever pruned.
struct PruneRule {
  std::int64_t keep_bytes = -1;    // -1: no limit; else drop least recently used until images and texts fit
  std::int64_t older_than_s = -1;  // -1: any age; else drop rows not used for this long
  std::string toolchain_not{};     // drop binaries of every other toolchain
  bool failures = false;           // drop stored failures
  bool dry_run = false;
};

struct Difference {
  std::string what;         // "binary" or "tuning"
  std::string key;          // signature arch toolchain, or operator problem device deployment basis tiles
  std::string left, right;  // short descriptions; "" where absent
};

// Each throws Error(io) with the file's name if it cannot be opened; `verify` reports instead.
FileSummary summarize(const std::filesystem::path& file);
std::vector<BinaryRecord> list_binaries(const std::filesystem::path& file, bool with_images);
std::vector<TuningRecord> list_tuning(const std::filesystem::path& file);
std::int64_t prune(const std::filesystem::path& file, const PruneRule& rule);  // rows dropped
std::vector<std::string> verify(const std::filesystem::path& file);            // problems found, empty if sound
std::vector<Difference> diff(const std::filesystem::path& left, const std::filesystem::path& right);
// Adds the rows of `from`; returns how many were added or replaced. The same inputs in any order give the same rows:
// the newer row wins, then the one with the smaller checksum; a ready binary wins over a failed compile, and of two
// choices for a problem the newer, then the smaller text. Makes `into` if it is not there.
std::int64_t merge(const std::filesystem::path& into, const std::vector<std::filesystem::path>& from);
// Tuning records as reviewable text (tuning_text.h), sorted, and back. Importing merges as above, all lines or none.
void export_tuning(const std::filesystem::path& file, const std::filesystem::path& text);
std::int64_t import_tuning(const std::filesystem::path& file, const std::filesystem::path& text);
// A copy with every row in key order and no write-ahead log: fit to be shipped and opened read-only. The same rows give
// the same bytes (with one release of SQLite). Returns the SHA-256 of the file, which a layer can be pinned to.
std::string export_layer(const std::filesystem::path& file, const std::filesystem::path& shipped);

}  // namespace gdnjit::cache
