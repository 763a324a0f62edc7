# shellcheck shell=bash
# NVRTC, the compiler of kernels: in a CUDA toolkit, as a system library, or as a wheel in a private folder, which
# the library searches by itself (codegen/nvrtc_library.h).

NVRTC_FOLDER=${XDG_DATA_HOME:-$HOME/.local/share}/gdnjit/nvrtc

# Prints the first NVRTC 12 or newer that the library would find.
find_nvrtc() {
  local folder library
  if [[ -n ${GDNJIT_NVRTC:-} ]]; then
    printf '%s' "$GDNJIT_NVRTC"
    return 0
  fi
  for folder in ${CUDA_HOME:+"$CUDA_HOME"/lib*} ${CUDA_PATH:+"$CUDA_PATH"/lib*} \
    /usr/local/cuda*/lib* /usr/local/cuda*/targets/x86_64-linux/lib "$NVRTC_FOLDER"/nvidia/*/lib; do
    for library in "$folder"/libnvrtc.so.1[2-9]; do
      [[ -e $library ]] && printf '%s' "$library" && return 0
    done
  done
  library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | awk '/libnvrtc\.so\.1[2-9] / { print $NF; exit }')
  [[ -n $library ]] && printf '%s' "$library"
}

# A driver loads binaries of its own CUDA major version or older; without a driver the newest wheel is right.
nvrtc_wheel() {
  if nvidia-smi 2>/dev/null | grep -q 'CUDA Version: 12\.'; then
    printf 'nvidia-cuda-nvrtc-cu12'
  else
    printf 'nvidia-cuda-nvrtc'
  fi
}

ensure_nvrtc() {
  step "NVRTC, NVIDIA's run-time compiler (no CUDA toolkit needed)"
  local found wheel
  if found=$(find_nvrtc); then
    say "    found: $found"
    return 0
  fi
  wheel=$(nvrtc_wheel)
  say "    none found: fetching the wheel $wheel (about 60 MB) into $NVRTC_FOLDER"
  mkdir -p "$(dirname "$NVRTC_FOLDER")"
  rm -rf "$NVRTC_FOLDER.part"
  # --target leaves Python's own packages alone; the rename makes an interrupted download harmless.
  run_logged "$LOGS/nvrtc.log" env PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    python3 -m pip install --no-cache-dir --no-deps --only-binary :all: --target "$NVRTC_FOLDER.part" "$wheel" ||
    die "pip could not fetch $wheel; fetch it elsewhere and set GDNJIT_NVRTC to its libnvrtc.so"
  rm -rf "$NVRTC_FOLDER"
  mv "$NVRTC_FOLDER.part" "$NVRTC_FOLDER"
  found=$(find_nvrtc) || die "the wheel $wheel holds no libnvrtc.so.12 or newer"
  say "    found: $found"
}
