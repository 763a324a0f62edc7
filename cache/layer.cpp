#include "cache/layer.h"

#include <fmt/format.h>
#include <sha256.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <fstream>

#include "cache/permissions.h"
#include "cache/schema.h"
#include "cache/user_file.h"

namespace gdnjit::cache {
namespace {

constexpr std::string_view kPin = "#sha256=";

}  // namespace

LayerName parse_layer_name(const std::filesystem::path& text) {
  LayerName name{.file = text, .sha256 = ""};
  const std::string whole = text.string();
  if (const std::size_t pin = whole.rfind(kPin); pin != std::string::npos) {
    name.file = whole.substr(0, pin);
    name.sha256 = whole.substr(pin + kPin.size());
    std::transform(name.sha256.begin(), name.sha256.end(), name.sha256.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  }
  std::error_code error;
  if (std::filesystem::is_directory(name.file, error)) name.file /= kFileName;
  return name;
}

std::string sha256_of_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return "";
  SHA256_CTX context;
  SHA256Init(&context);
  std::array<char, 1 << 16> block;
  while (stream) {
    stream.read(block.data(), block.size());
    SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(block.data()),
                 static_cast<std::size_t>(stream.gcount()));
  }
  if (stream.bad()) return "";
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256Final(digest.data(), &context);
  std::string text;
  for (const std::uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

Store* Layer::store() {
  if (!tried_) {
    tried_ = true;
    open();
  }
  return store_.get();
}

void Layer::open() {
  const Inspection found = inspect_file(name_.file);
  if (found.error != 0) return drop(std::strerror(found.error));
  if (!found.trouble.empty()) return drop(found.trouble);
  if (!name_.sha256.empty()) {
    const std::string is = sha256_of_file(name_.file);
    if (is != name_.sha256) return drop(fmt::format("its SHA-256 is {} and should be {}", is, name_.sha256));
  }
  database_ = std::make_unique<Database>(name_.file, OpenMode::immutable, 0);
  const SchemaState state = prepare_schema(*database_, false);
  if (state == SchemaState::ready && inspect_file(name_.file).id == found.id) {
    store_ = std::make_unique<Store>(*database_);
    return;
  }
  switch (state) {
    case SchemaState::older:
    case SchemaState::newer: return drop("it was made by another version of gdnjit; export it anew");
    case SchemaState::failed: return drop(std::string(database_->text()));
    default: return drop("it is not a kernel cache");
  }
}

void Layer::drop(const std::string& why) {
  store_.reset();
  database_.reset();
  ++damaged_;
  warning_ = fmt::format("the read-only cache '{}' is not used: {}", name_.file.string(), why);
}

void Layer::check_after_use() {
  if (database_ && !database_->ok()) drop(std::string(database_->text()));
}

void Layer::reopen_in_child() {
  if (database_) database_->abandon();
  store_.reset();
  database_.reset();
  tried_ = false;
}

}  // namespace gdnjit::cache
