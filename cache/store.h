// The rows of one open cache file as records. Every row read is verified; a damaged one is never returned, and is
// deleted if the file can be written. Failures are left in the Database; callers look there.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "cache/database.h"
#include "cache/fields.h"

namespace gdnjit::cache {

struct StoredBinary {
  BinaryRecord record;
  std::int64_t last_used_unix_s = 0;
};

class Store {
 public:
  explicit Store(Database& database) : database_(database) {}

  std::optional<StoredBinary> find_binary(const Digest& key);
  // The newest ready binary of the request.
  std::optional<BinaryRecord> find_request(const Digest& request, std::string_view signature);
  // Adds or replaces one record and keeps the file below the limit by dropping the least recently used others.
  // A record that alone is larger than the limit is not stored.
  bool put_binary(const BinaryRecord& record, std::int64_t now_unix_s, std::int64_t size_limit_bytes);
  bool remove_binaries(std::span<const Digest> keys);
  bool touch(std::span<const Digest> keys, std::int64_t now_unix_s);

  // All rows whose non-empty arguments match, in the order of their identity.
  std::vector<TuningRecord> find_tuning(std::string_view operator_name, std::string_view problem,
                                        std::string_view device);
  bool put_tuning(const TuningRecord& record);
  bool choose_tuning(const TuningRecord& winner, std::int64_t now_unix_s);

  std::optional<ToolchainRow> find_toolchain(std::string_view path);
  std::optional<ToolchainRow> last_toolchain();
  bool put_toolchain(ToolchainRow row);  // sets `turn`

  // Each sound row of a table in a stable order: binaries by key, the others by identity.
  void each_binary(const std::function<void(const BinaryRecord&)>& visit);
  std::vector<TuningRecord> all_tuning();
  std::vector<Choice> all_choices();
  std::vector<ToolchainRow> all_toolchains();

  // Damaged rows met by this object so far.
  std::int64_t damaged() const { return damaged_; }
  Database& database() { return database_; }

 private:
  template <typename Record, typename Visit, typename... Values>
  void each(const std::string& sql, const Visit& visit, const Values&... values);
  template <typename Work>
  bool write(const Work& work);
  bool write_use(const Digest& key, std::int64_t now_unix_s);
  bool evict_for(const Digest& kept, std::int64_t size_limit_bytes);

  Database& database_;
  std::int64_t damaged_ = 0;
};

// What makes two tuning results rivals for one place.
bool same_group(const TuningRecord& a, const TuningRecord& b);

}  // namespace gdnjit::cache
