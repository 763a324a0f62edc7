# shellcheck shell=bash
# How the set-up scripts talk: one line per step, the output of noisy commands in a log that is shown on failure.

say() { printf '%s\n' "$*"; }
step() { printf '\n==> %s\n' "$*"; }
die() {
  printf '\nerror: %s\n' "$*" >&2
  exit 1
}

# run_logged <log> <command...>: quiet on success, says how long it took; on failure shows the end of the log.
run_logged() {
  local log=$1 begin=$SECONDS
  shift
  mkdir -p "$(dirname "$log")"
  if "$@" >"$log" 2>&1; then
    say "    done in $((SECONDS - begin)) s"
  else
    printf '\nerror: this command failed; the last lines of %s follow\n    %s\n' "$log" "$*" >&2
    tail -n 40 "$log" >&2
    return 1
  fi
}
