# shellcheck shell=bash
# System packages: which ones the build needs, which are missing, and installing those.

# Debian package and what proves that it is there already, however it was installed: a command or a header.
readonly REQUIRED_PACKAGES='
cmake              command cmake
ninja-build        command ninja
libfmt-dev         header  fmt/format.h
libsqlite3-dev     header  sqlite3.h
libmd-dev          header  sha256.h
libxxhash-dev      header  xxhash.h
libdlpack-dev      header  dlpack/dlpack.h
libcli11-dev       header  CLI/CLI.hpp
nlohmann-json3-dev header  nlohmann/json.hpp
doctest-dev        header  doctest/doctest.h
libbenchmark-dev   header  benchmark/benchmark.h
'

# have <command|header> <name>
have() {
  case $1 in
    command) command -v "$2" >/dev/null ;;
    header)
      local folder
      for folder in /usr/local/include /usr/include /usr/include/*-linux-gnu ${CPATH:+${CPATH//:/ }}; do
        [[ -e $folder/$2 ]] && return 0
      done
      return 1
      ;;
  esac
}

# Sets CXX and CC: as the caller set CXX, else GCC 12 or newer, the system's default preferred. Returns 1 if there is
# none.
find_compiler() {
  local candidate
  if [[ -n ${CXX:-} ]]; then
    command -v "$CXX" >/dev/null || die "CXX=$CXX: no such compiler"
    return 0
  fi
  for candidate in g++ g++-14 g++-13 g++-12; do
    if command -v "$candidate" >/dev/null && (($("$candidate" -dumpversion | cut -d. -f1) >= 12)); then
      export CXX=$candidate CC=${candidate/g++/gcc}
      return 0
    fi
  done
  return 1
}

# The package that brings a new enough compiler: Ubuntu 22.04's default is GCC 11.
compiler_package() {
  local release
  release=$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-}${VERSION_ID:-}")
  if [[ $release == ubuntu22.* ]]; then printf 'g++-12'; else printf 'g++'; fi
}

missing_packages() {
  local package kind name
  find_compiler || compiler_package
  while read -r package kind name; do
    [[ -z $package ]] || have "$kind" "$name" || printf ' %s' "$package"
  done <<<"$REQUIRED_PACKAGES"
  if ! find_nvrtc >/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
    printf ' python3-pip ca-certificates'  # they fetch NVRTC
  fi
}

# install_packages <package...>: with apt, as root or through sudo.
install_packages() {
  local -a as_root=()
  if ((EUID != 0)); then
    as_root=(sudo)
    [[ -t 0 ]] || as_root=(sudo -n)  # nobody is there to type a password
    "${as_root[@]}" true 2>/dev/null ||
      die "these packages are missing and this user may not install them; ask an administrator for
    apt-get install $*"
  fi
  command -v apt-get >/dev/null || die "there is no apt-get here; install what Debian calls: $*"
  say "    apt-get update"
  run_logged "$LOGS/apt-update.log" "${as_root[@]}" apt-get update
  say "    apt-get install $*"
  run_logged "$LOGS/apt-install.log" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "$@" ||
    die "apt could not install the packages (on Ubuntu they need the component 'universe')"
}

ensure_packages() {
  step "System packages"
  local -a missing
  read -r -a missing <<<"$(missing_packages)"
  if ((${#missing[@]} == 0)); then
    say "    all there"
  else
    say "    missing: ${missing[*]}"
    install_packages "${missing[@]}"
  fi
  find_compiler || die "no C++20 compiler: GCC 12 or newer is needed (set CXX to name one)"
  say "    compiler: $("$CXX" --version | head -n 1)"
}
