#!/usr/bin/env bash
# Formats the project's C++ and device code with clang-format 14; --check only reports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  "") mode=(-i) ;;
  --check) mode=(--dry-run --Werror) ;;
  *)
    echo "usage: tools/format.sh [--check]"
    exit 2
    ;;
esac
formatter=$(command -v clang-format-14 || command -v clang-format) || { echo "clang-format is not installed"; exit 1; }
find autotune cache codegen examples runtime templates tests tools \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.c' -o -name '*.cuh' \) -print0 |
  xargs -0 "$formatter" "${mode[@]}"
