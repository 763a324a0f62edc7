#include "autotune/tune_hook.h"

#include "autotune/tuner.h"

namespace gdnjit::autotune {

void register_tune_hook(Runtime::Impl& runtime) {
  runtime.set_tune_hook([](Runtime::Impl& impl, const Operator& op, const FieldMap& problem) {
    tune(impl, {{.op = &op, .problem = problem}}, TunerOptions{});
  });
}

}  // namespace gdnjit::autotune
