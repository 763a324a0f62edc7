#!/usr/bin/env bash
# Same set-up as tools/quickstart.sh; then builds everything and runs the tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/test.sh [--preset NAME] [ctest argument...]

Installs what is missing, builds a preset (release by default; dev, asan, tsan, portable) and runs its tests.
Tests that need a GPU say so and are skipped without one.

examples:
  tools/test.sh
  tools/test.sh --preset asan
  tools/test.sh -L structure          only the tests with that label
  tools/test.sh -R cache_test -V      one test, with its output
  tools/test.sh -LE '^sweep$'         what continuous integration runs: all but the long sweeps
TEXT
}

preset=release
case ${1:-} in
  -h | --help)
    usage
    exit 0
    ;;
  --preset)
    (($# >= 2)) || { usage >&2; exit 2; }
    preset=$2
    shift 2
    ;;
esac

# shellcheck source=tools/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
begin=$SECONDS
set_up
build_preset "$preset"

step "Testing: ctest --preset $preset $*"
ctest --preset "$preset" --parallel "$(nproc)" --no-tests=error "$@" || die "tests failed (preset $preset)"

say
say "Done in $((SECONDS - begin)) s: gdnjit is built in build/$preset and its tests pass."
