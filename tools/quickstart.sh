#!/usr/bin/env bash
# From a fresh machine to tuned kernels: installs what is missing, builds, tunes, and decodes.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
usage: tools/quickstart.sh

Installs the packages that are missing (with apt; it prints them first), fetches NVRTC if the machine has none,
builds gdnjit into build/release, tunes the decode step of Qwen3-Next-80B, and runs the example on the result.
Works with and without a GPU: without one, kernels run on the emulator. Run it again at any time: what is done is
not done twice.

environment:
  CXX           the compiler to use (GCC 12 or newer)
  GDNJIT_NVRTC  the libnvrtc.so to use
TEXT
  exit 0
fi
(($# == 0)) || { echo "tools/quickstart.sh takes no arguments (see --help)" >&2; exit 2; }

# shellcheck source=tools/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
begin=$SECONDS
set_up
build_preset release gdn-tune decode

gdn_tune=build/release/tools/gdn-tune/gdn-tune
step "Tuning: gdn-tune tune --model qwen3-next-80b --tp 1,4 --op gdn.step --batch 1,8,64"
"$gdn_tune" tune --model qwen3-next-80b --tp 1,4 --op gdn.step --batch 1,8,64

step "Decoding with the tuned kernels, in a fresh process: examples/decode"
build/release/examples/decode

say
say "Done in $((SECONDS - begin)) s: gdnjit is built in build/release, the decode step of Qwen3-Next-80B is tuned and" \
  "cached, and decoding with it matches the reference."
