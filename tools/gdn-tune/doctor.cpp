// gdn-tune doctor: what works on this machine, and what to do about the rest.
#include <fmt/format.h>
#include <sys/utsname.h>

#include <thread>

#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/command_line.h"
#include "tools/gdn-tune/diagnosis.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/version.h"

namespace gdnjit::tool {
namespace {

std::string_view health_text(Health health) {
  switch (health) {
    case Health::ok: return "ok";
    case Health::warn: return "warn";
    case Health::fail: break;
  }
  return "fail";
}

Style health_style(Health health) {
  return health == Health::ok ? Style::good : health == Health::warn ? Style::caution : Style::bad;
}

std::string machine_text() {
  utsname name{};
  uname(&name);
  return fmt::format("{} {} {}, {} cores", name.sysname, name.release, name.machine,
                     std::thread::hardware_concurrency());
}

class DoctorCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    runtime_.declare_device(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    std::vector<Finding> findings;
    findings.push_back({Health::ok, "gdn-tune", fmt::format("{} on {}", kVersion, machine_text()), ""});
    Diagnosis diagnosis;
    try {
      const Options options = runtime_.options();
      const auto progress = console.progress("examining");
      std::size_t steps = 0;
      diagnosis = diagnose(options, system_device_sources(), [&](const std::string& step) {
        progress->update(steps++, 5 + options.read_only_caches.size(), step);
      });
    } catch (const Error& error) {
      diagnosis.code = error.code();
      diagnosis.findings.push_back({Health::fail, "settings", error.what(), "correct the option or the variable"});
    }
    findings.insert(findings.end(), diagnosis.findings.begin(), diagnosis.findings.end());
    return report(console, findings, diagnosis.code);
  }

 private:
  static Result report(const Console& console, const std::vector<Finding>& findings, ErrorCode code) {
    Result result{.exit_code = static_cast<int>(code)};
    result.report["findings"] = Json::array();
    for (const Finding& finding : findings) {
      console.print(
          fmt::format("{} {:<9} {}\n",
                      console.styled(fmt::format("{:<5}", health_text(finding.health)), health_style(finding.health)),
                      finding.subject, finding.detail));
      if (!finding.remedy.empty()) console.print(fmt::format("{:16}-> {}\n", "", finding.remedy));
      result.report["findings"].push_back({{"health", health_text(finding.health)},
                                           {"subject", finding.subject},
                                           {"detail", finding.detail},
                                           {"remedy", finding.remedy}});
    }
    const bool works = code == ErrorCode::ok;
    result.report["works"] = works;
    console.print("\n" +
                  console.styled(works ? "Kernels run on this machine." : "No kernel can run on this machine yet.",
                                 works ? Style::good : Style::bad) +
                  "\n");
    return result;
  }

  RuntimeArguments runtime_;
};

}  // namespace

std::unique_ptr<Command> make_doctor_command() { return std::make_unique<DoctorCommand>(); }

}  // namespace gdnjit::tool
