#include "cache/kernel_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

#include "cache/fork_guard.h"
#include "cache/key_lock.h"
#include "cache/layer.h"
#include "cache/memory_map.h"
#include "cache/single_flight.h"
#include "cache/user_file.h"
#include "runtime/support/log.h"

namespace gdnjit::cache {
namespace {

// A use is written down if the last one noted is older than this: eviction needs no more precision.
constexpr std::int64_t kUsePrecision_s = 3600;
constexpr std::size_t kUsesPerWrite = 64;

std::int64_t system_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

using Counter = std::atomic<std::uint64_t>;

}  // namespace

std::optional<FileIdentity> identify_file(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return FileIdentity{.path = file.string(),
                      .size = status.st_size,
                      .modified_ns = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec};
}

class KernelCache::Impl final : private Forkable {
 public:
  explicit Impl(CacheOptions options)
      : options_(std::move(options)),
        memory_(options_.memory_limit_bytes),
        file_(options_.directory, options_.busy_timeout_ms),
        guard_(*this) {
    for (const std::filesystem::path& layer : options_.read_only) layers_.emplace_back(layer);
  }
  ~Impl() { write_uses(); }

  BinaryPtr find(const Digest& key, std::string_view signature) {
    if (BinaryPtr hit = memory_.find(key, signature)) {
      memory_hits_.fetch_add(1, std::memory_order_relaxed);
      return hit;
    }
    if (BinaryPtr hit = find_stored(key, signature)) return hit;
    misses_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }

  BinaryPtr find_any_toolchain(const Digest& request, std::string_view signature) {
    if (BinaryPtr hit = memory_.find_request(request, signature)) return count(memory_hits_, std::move(hit));
    std::optional<BinaryRecord> found;
    file_.use([&](Store& store) { found = store.find_request(request, signature); });
    if (!found) {
      each_layer([&](Store& store) {
        found = store.find_request(request, signature);
        return found.has_value();
      });
    }
    if (!found) return count(misses_, nullptr);
    return count(file_hits_, keep(std::move(*found)));
  }

  BinaryPtr find_or_compile(const Digest& key, std::string_view signature,
                            const std::function<BinaryRecord()>& compile) {
    if (BinaryPtr hit = memory_.find(key, signature)) return count(memory_hits_, std::move(hit));
    bool waited = false;
    BinaryPtr result = flights_.run(
        key, signature, [&] { return find_or_compile_alone(key, signature, compile); }, waited);
    if (waited) waited_.fetch_add(1, std::memory_order_relaxed);
    return result;
  }

  void put_tuning(TuningRecord record) {
    if (record.created_unix_s == 0) record.created_unix_s = now();
    store_tuning(record, [&](Store& store) { store.put_tuning(record); });
  }

  void choose_tuning(TuningRecord winner) {
    if (winner.created_unix_s == 0) winner.created_unix_s = now();
    winner.chosen = true;
    store_tuning(winner, [&](Store& store) { store.choose_tuning(winner, now()); });
  }

  std::vector<TuningRecord> find_tuning(std::string_view operator_name, std::string_view problem,
                                        std::string_view device) {
    std::vector<TuningRecord> rows;
    file_.use([&](Store& store) { rows = store.find_tuning(operator_name, problem, device); });
    add_unstored(rows, operator_name, problem, device);
    each_layer([&](Store& store) {
      std::vector<TuningRecord> more = store.find_tuning(operator_name, problem, device);
      std::move(more.begin(), more.end(), std::back_inserter(rows));
      return false;
    });
    return rows;
  }

  std::optional<std::string> known_toolchain(const FileIdentity& library) {
    std::optional<ToolchainRow> row;
    file_.use([&](Store& store) { row = store.find_toolchain(library.path); });
    if (!row) row = unstored_toolchain(library.path);
    if (!row || row->size != library.size || row->modified_ns != library.modified_ns) return std::nullopt;
    return row->toolchain;
  }

  void remember_toolchain(const FileIdentity& library, std::string_view toolchain) {
    const ToolchainRow row{.path = library.path,
                           .size = library.size,
                           .modified_ns = library.modified_ns,
                           .toolchain = std::string(toolchain),
                           .turn = 0};
    const bool stored = file_.use([&](Store& store) {
      const std::optional<ToolchainRow> last = store.last_toolchain();
      const bool known = last && last->path == row.path && last->size == row.size &&
                         last->modified_ns == row.modified_ns && last->toolchain == row.toolchain;
      if (!known) store.put_toolchain(row);
    });
    if (stored) return;
    std::lock_guard lock(unstored_mutex_);
    std::erase_if(unstored_toolchains_, [&](const ToolchainRow& other) { return other.path == row.path; });
    unstored_toolchains_.push_back(row);
  }

  std::optional<std::pair<FileIdentity, std::string>> last_toolchain() {
    std::optional<ToolchainRow> row = unstored_toolchain("");
    if (!row) file_.use([&](Store& store) { row = store.last_toolchain(); });
    if (!row) return std::nullopt;
    const std::optional<FileIdentity> now_there = identify_file(row->path);
    if (!now_there || now_there->size != row->size || now_there->modified_ns != row->modified_ns) return std::nullopt;
    return std::pair(*now_there, row->toolchain);
  }

  CacheStatistics statistics() const {
    CacheStatistics s;
    s.memory_hits = memory_hits_;
    s.file_hits = file_hits_;
    s.misses = misses_;
    s.compiles = compiles_;
    s.waited = waited_;
    s.write_failures = write_failures_;
    s.corrupt = static_cast<std::uint64_t>(file_.damaged());
    std::lock_guard lock(layers_mutex_);
    for (const Layer& layer : layers_) s.corrupt += static_cast<std::uint64_t>(layer.damaged());
    return s;
  }

  std::filesystem::path file() const { return file_.file(); }

  std::string trouble() {
    file_.use([](Store&) {});  // opening it shows most of what can be wrong
    return file_.trouble();
  }

 private:
  static BinaryPtr count(Counter& counter, BinaryPtr result) {
    counter.fetch_add(1, std::memory_order_relaxed);
    return result;
  }

  std::int64_t now() const { return options_.now_unix_s ? options_.now_unix_s() : system_now(); }

  BinaryPtr keep(BinaryRecord record) {
    BinaryPtr kept = std::make_shared<const BinaryRecord>(std::move(record));
    memory_.put(kept);
    return kept;
  }

  // Runs visit(Store&) on each layer that works, until it returns true.
  void each_layer(const std::function<bool(Store&)>& visit) {
    if (options_.read_only.empty()) return;
    std::vector<std::string> warnings;
    {
      std::lock_guard lock(layers_mutex_);
      for (Layer& layer : layers_) {
        Store* store = layer.store();
        const bool found = store && visit(*store);
        layer.check_after_use();
        if (std::string text = layer.take_warning(); !text.empty()) warnings.push_back(std::move(text));
        if (found) break;
      }
    }
    for (const std::string& text : warnings) warn_once("cache-layer:" + text, text);
  }

  // The user's file, then each layer. A ready record in a layer beats a failure above it.
  BinaryPtr find_stored(const Digest& key, std::string_view signature) {
    std::optional<BinaryRecord> found;
    std::int64_t last_used = 0;
    file_.use([&](Store& store) {
      found.reset();
      std::optional<StoredBinary> row = store.find_binary(key);
      if (!row || row->record.signature != signature) return;
      found = std::move(row->record);
      last_used = row->last_used_unix_s;
    });
    if (found && found->status == BinaryStatus::ready) {
      note_use(key, last_used);
    } else {
      each_layer([&](Store& store) {
        std::optional<StoredBinary> row = store.find_binary(key);
        if (!row || row->record.signature != signature) return false;
        const bool ready = row->record.status == BinaryStatus::ready;
        if (ready || !found) found = std::move(row->record);
        return ready;
      });
    }
    return found ? count(file_hits_, keep(std::move(*found))) : nullptr;
  }

  // This thread is the only one of the process at work on the key.
  BinaryPtr find_or_compile_alone(const Digest& key, std::string_view signature,
                                  const std::function<BinaryRecord()>& compile) {
    // Another thread may have finished between our look into memory and now.
    if (BinaryPtr hit = memory_.find(key, signature)) return count(memory_hits_, std::move(hit));
    if (BinaryPtr hit = find_stored(key, signature)) return hit;

    std::optional<KeyLock> lock;
    if (file_.shared()) {
      lock.emplace(file_.locks(), key, options_.lock_timeout_ms);
      if (BinaryPtr hit = find_stored(key, signature)) {
        if (lock->waited()) waited_.fetch_add(1, std::memory_order_relaxed);
        lock->finish();
        return hit;
      }
    }
    misses_.fetch_add(1, std::memory_order_relaxed);
    compiles_.fetch_add(1, std::memory_order_relaxed);
    BinaryRecord made = compile();
    made.key = key;
    made.signature = signature;
    if (made.created_unix_s == 0) made.created_unix_s = now();
    BinaryPtr kept = keep(std::move(made));
    store_binary(*kept);
    if (lock) lock->finish();
    return kept;
  }

  void store_binary(const BinaryRecord& record) {
    if (options_.directory.empty()) return;
    const bool stored = file_.use([&](Store& store) { store.put_binary(record, now(), options_.size_limit_bytes); });
    if (!stored) write_failures_.fetch_add(1, std::memory_order_relaxed);
    write_uses();
  }

  void note_use(const Digest& key, std::int64_t last_used) {
    const std::int64_t age = now() - last_used;
    if (age >= 0 && age < kUsePrecision_s) return;  // a time in the future is put right
    bool full = false;
    {
      std::lock_guard lock(uses_mutex_);
      uses_.push_back(key);
      full = uses_.size() >= kUsesPerWrite;
    }
    if (full) write_uses();
  }

  // A failure is ignored: the order of eviction is then a little off.
  void write_uses() {
    std::vector<Digest> uses;
    {
      std::lock_guard lock(uses_mutex_);
      uses.swap(uses_);
    }
    if (!uses.empty()) file_.use([&](Store& store) { store.database().writable() && store.touch(uses, now()); });
  }

  template <typename Write>
  void store_tuning(const TuningRecord& record, const Write& write) {
    const bool stored = file_.use(write);
    if (stored) return;
    if (!options_.directory.empty()) write_failures_.fetch_add(1, std::memory_order_relaxed);
    std::lock_guard lock(unstored_mutex_);
    std::erase_if(unstored_tuning_,
                  [&](const TuningRecord& other) { return same_group(other, record) && other.tiles == record.tiles; });
    if (record.chosen) {
      for (TuningRecord& other : unstored_tuning_) other.chosen = other.chosen && !same_group(other, record);
    }
    unstored_tuning_.push_back(record);
  }

  // Results that could not be stored take the place of the stored ones.
  void add_unstored(std::vector<TuningRecord>& rows, std::string_view operator_name, std::string_view problem,
                    std::string_view device) {
    const auto matches = [](std::string_view wanted, const std::string& is) { return wanted.empty() || wanted == is; };
    std::lock_guard lock(unstored_mutex_);
    for (const TuningRecord& record : unstored_tuning_) {
      if (!matches(operator_name, record.operator_name) || !matches(problem, record.problem) ||
          !matches(device, record.device)) {
        continue;
      }
      std::erase_if(rows,
                    [&](const TuningRecord& row) { return same_group(row, record) && row.tiles == record.tiles; });
      if (record.chosen) {
        for (TuningRecord& row : rows) row.chosen = row.chosen && !same_group(row, record);
      }
      rows.push_back(record);
    }
  }

  // Of that path, or the last one if the path is empty.
  std::optional<ToolchainRow> unstored_toolchain(std::string_view path) {
    std::lock_guard lock(unstored_mutex_);
    for (auto row = unstored_toolchains_.rbegin(); row != unstored_toolchains_.rend(); ++row) {
      if (path.empty() || row->path == path) return *row;
    }
    return std::nullopt;
  }

  // No code of this class holds two of these at a time.
  void before_fork() override {
    flights_.mutex().lock();
    file_.mutex().lock();
    layers_mutex_.lock();
    memory_.mutex().lock();
    uses_mutex_.lock();
    unstored_mutex_.lock();
  }
  void after_fork_in_parent() override {
    unstored_mutex_.unlock();
    uses_mutex_.unlock();
    memory_.mutex().unlock();
    layers_mutex_.unlock();
    file_.mutex().unlock();
    flights_.mutex().unlock();
  }
  void after_fork_in_child() override {
    file_.reopen_in_child();
    for (Layer& layer : layers_) layer.reopen_in_child();
    flights_.forget_in_child();
    uses_.clear();  // the parent writes them
    after_fork_in_parent();
  }

  const CacheOptions options_;
  MemoryMap memory_;
  UserFile file_;
  SingleFlight flights_;

  mutable std::mutex layers_mutex_;
  std::vector<Layer> layers_;

  std::mutex uses_mutex_;
  std::vector<Digest> uses_;

  std::mutex unstored_mutex_;
  std::vector<TuningRecord> unstored_tuning_;
  std::vector<ToolchainRow> unstored_toolchains_;

  Counter memory_hits_{0}, file_hits_{0}, misses_{0}, compiles_{0}, waited_{0}, write_failures_{0};

  ForkGuard guard_;  // last: a fork must find everything above in place
};

KernelCache::KernelCache(CacheOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
KernelCache::~KernelCache() = default;

KernelCache::BinaryPtr KernelCache::find(const Digest& key, std::string_view signature) {
  return impl_->find(key, signature);
}

KernelCache::BinaryPtr KernelCache::find_any_toolchain(const Digest& request, std::string_view signature) {
  return impl_->find_any_toolchain(request, signature);
}

KernelCache::BinaryPtr KernelCache::find_or_compile(const Digest& key, std::string_view signature,
                                                    const std::function<BinaryRecord()>& compile) {
  return impl_->find_or_compile(key, signature, compile);
}

void KernelCache::put_tuning(const TuningRecord& record) { impl_->put_tuning(record); }
void KernelCache::choose_tuning(const TuningRecord& winner) { impl_->choose_tuning(winner); }

std::vector<TuningRecord> KernelCache::find_tuning(std::string_view operator_name, std::string_view problem,
                                                   std::string_view device) const {
  return impl_->find_tuning(operator_name, problem, device);
}

std::optional<std::string> KernelCache::known_toolchain(const FileIdentity& library) {
  return impl_->known_toolchain(library);
}

void KernelCache::remember_toolchain(const FileIdentity& library, std::string_view toolchain) {
  impl_->remember_toolchain(library, toolchain);
}

std::optional<std::pair<FileIdentity, std::string>> KernelCache::last_toolchain() { return impl_->last_toolchain(); }

CacheStatistics KernelCache::statistics() const { return impl_->statistics(); }
std::filesystem::path KernelCache::file() const { return impl_->file(); }
std::string KernelCache::trouble() const { return impl_->trouble(); }

}  // namespace gdnjit::cache
