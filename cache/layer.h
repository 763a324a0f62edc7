// A cache file below the user's: of the site, or shipped. Never written to.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cache/store.h"

namespace gdnjit::cache {

// How a layer is named in options and environment: "<file or folder>" or "<file>#sha256=<64 hex digits>". With a
// digest the file must be, byte for byte, what `export_layer` made; it is read once in full when it is first needed.
struct LayerName {
  std::filesystem::path file;
  std::string sha256;  // lower case; "" if not pinned
};
LayerName parse_layer_name(const std::filesystem::path& text);

// Opened at the first use; a layer that cannot be used is said once and is empty. Not thread-safe.
class Layer {
 public:
  explicit Layer(const std::filesystem::path& text) : name_(parse_layer_name(text)) {}

  // Null if the layer cannot be used.
  Store* store();
  // Files and rows of the layer found bad so far.
  std::int64_t damaged() const { return damaged_ + (store_ ? store_->damaged() : 0); }
  // To be called after a use: drops the layer if the use failed.
  void check_after_use();
  // What is to be said about the layer, once: "" most of the time. Given by the caller when it holds no lock.
  std::string take_warning() { return std::exchange(warning_, {}); }
  // The child of a fork opens the file anew.
  void reopen_in_child();

 private:
  void open();
  void drop(const std::string& why);

  LayerName name_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Store> store_;
  bool tried_ = false;
  std::string warning_;
  std::int64_t damaged_ = 0;
};

// SHA-256 of a file in lower-case hexadecimal; "" if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& file);

}  // namespace gdnjit::cache
