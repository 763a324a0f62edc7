#include "tools/gdn-tune/tiles_choice.h"

#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "runtime/tile_lookup.h"

namespace gdnjit::tool {

void TilesArguments::declare(Arguments& arguments) {
  arguments.group("Tiles");
  arguments.option("tiles", which, "WHICH",
                   "default, chosen (by tuning records), all, or \"block_v=32 ..\" over\nthe default; here: " + which);
  arguments.flag("all-tiles", all, "Every candidate of the search space, as --tiles all");
}

std::vector<FieldMap> TilesArguments::tiles_of(const SelectedProblem& selected, const Runtime::Impl& runtime) const {
  const DeviceInfo& device = runtime.device().info();
  if (all || which == "all") return selected.op->search_space(selected.problem, device.traits);
  if (which == "chosen") {
    return {choose_tiles(runtime.cache(), device, *selected.op, selected.problem, true).tiles};
  }
  FieldMap tiles = selected.op->default_tiles(selected.problem, device.traits);
  if (which == "default") return {tiles};
  std::vector<std::string> known;
  for (const auto& [name, value] : tiles) known.push_back(name);
  require(which.find('=') != std::string::npos, "--tiles {}: expected default, chosen, all or name=value", which);
  for (const auto& [name, value] : parse_fields(which)) {
    require(find_field(tiles, name).has_value(), "--tiles: unknown field '{}'{}", name, suggestion(name, known));
    set_field(tiles, name, value);
  }
  selected.op->instantiate(selected.problem, tiles, Target{device.traits.arch});
  return {tiles};
}

}  // namespace gdnjit::tool
