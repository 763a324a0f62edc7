// gdn-tune diff: what two cache files hold differently.
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

class DiffCommand : public Command {
 public:
  void declare(Arguments& arguments) override { arguments.positional("FILE", files_, 2, 2, "The two cache files"); }

  Result run(Console& console) override {
    Table table({{"what"},
                 {"key", Table::Align::left, true},
                 {files_[0].filename().string(), Table::Align::left, true},
                 {files_[1].filename().string(), Table::Align::left, true}});
    Result result;
    result.report["left"] = files_[0].string();
    result.report["right"] = files_[1].string();
    result.report["differences"] = Json::array();
    const std::vector<cache::Difference> differences = cache::diff(files_[0], files_[1]);
    for (const cache::Difference& difference : differences) {
      const auto side = [](const std::string& text) {
        return text.empty() ? Table::Cell{"-", Style::faint} : Table::Cell{text};
      };
      table.add_row({difference.what, difference.key, side(difference.left), side(difference.right)});
      result.report["differences"].push_back(
          {{"what", difference.what}, {"key", difference.key}, {"left", difference.left}, {"right", difference.right}});
    }
    if (!table.empty()) console.print(table);
    console.print(differences.empty() ? "The files hold the same.\n" : plural(differences.size(), "difference") + "\n");
    return result;
  }

 private:
  std::vector<std::filesystem::path> files_;
};

}  // namespace

std::unique_ptr<Command> make_diff_command() { return std::make_unique<DiffCommand>(); }

}  // namespace gdnjit::tool
