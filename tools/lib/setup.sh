# shellcheck shell=bash
# The set-up shared by tools/quickstart.sh and tools/test.sh. Source it; it changes to the project's folder.

[[ ${BASH_SOURCE[0]} != "$0" ]] || {
  echo "tools/lib/setup.sh is a part of tools/quickstart.sh and tools/test.sh; run one of those" >&2
  exit 1
}
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
: "${HOME:=$(getent passwd "$EUID" | cut -d: -f6)}"  # bare containers leave it unset
export HOME
LOGS=$PWD/build/logs
for part in console packages nvrtc build; do
  # shellcheck source=/dev/null
  . "tools/lib/$part.sh"
done

# set_up: packages and NVRTC. Does nothing that is done already.
set_up() {
  mkdir -p "$LOGS"
  ensure_packages
  ensure_nvrtc
}
