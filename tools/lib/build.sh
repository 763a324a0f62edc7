# shellcheck shell=bash
# Configuring and building a preset.

# Compilers take up to about 1 GB each.
build_jobs() {
  local cores memory_gb
  cores=$(nproc)
  memory_gb=$(awk '/MemAvailable/ { printf "%d", $2 / 1048576 }' /proc/meminfo)
  ((memory_gb < cores)) && cores=$memory_gb
  ((cores < 1)) && cores=1
  printf '%s' "$cores"
}

# build_preset <preset> [target...]: into build/<preset>; everything if no target is named.
build_preset() {
  local preset=$1 jobs
  local -a launcher=() targets=()
  shift
  (($# > 0)) && targets=(--target "$@")
  jobs=$(build_jobs)
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  step "Building the preset '$preset' in build/$preset with $jobs jobs (a few minutes the first time)"
  run_logged "$LOGS/configure-$preset.log" cmake --preset "$preset" "${launcher[@]}" ||
    die "configuring failed; if build/$preset comes from another machine or compiler, delete it and try again"
  if [[ -t 1 ]]; then
    cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
  else
    run_logged "$LOGS/build-$preset.log" cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
  fi
}
