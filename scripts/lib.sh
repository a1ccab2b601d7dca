# Common part of the scripts: sourced, never run.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What the program needs to run, to be built, and what lab and tests use on top.
run_packages=(iptables iproute2 libnetfilter-queue1 libnfnetlink0 procps kmod util-linux)
build_packages=(python3 python3-venv python3-dev gcc libc6-dev libnetfilter-queue-dev libnfnetlink-dev ca-certificates)
lab_packages=(vsftpd curl)
test_packages=(systemd qemu-system-x86)

say() { printf '%s\n' "colo-bridge: $*" >&2; }
fail() { say "error: $*"; exit 2; }

need_debian_root() {
  [ "$(id -u)" -eq 0 ] || fail "this needs root: run it as 'sudo $0'"
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    fail "this needs Debian 12 (no apt-get here); README.md lists what to install by hand"
  # shellcheck disable=SC1091
  [ "$(. /etc/os-release && echo "${ID:-}${VERSION_ID:-}")" = debian12 ] ||
    say "warning: only Debian 12 is tested; going on"
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need_packages NAME… installs those that are missing, and says nothing if none is.
need_packages() {
  local missing=() name
  for name in "$@"; do is_installed "$name" || missing+=("$name"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  apt-get update -q >/dev/null || fail "apt-get update failed; is there a network?"
  without_starting_services apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get could not install ${missing[*]}"
  # The lab runs vsftpd in its own namespaces; the host is not to become an FTP server by it.
  case " ${missing[*]} " in *" vsftpd "*) systemctl disable -q vsftpd 2>/dev/null || true ;; esac
}

# Debian starts what it installs unless policy-rc.d forbids it. A subshell, for its own trap.
without_starting_services() (
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive "$@"
)

# find_python CANDIDATE…: prints the first Python of 3.11 or newer that can make virtual environments.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" "$@"; do
    [ -n "$candidate" ] || continue
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    echo "$candidate"
    return
  done
  fail "no Python 3.11 or newer with the venv module; install python3-venv or set PYTHON"
}

# need_venv: the checkout's .venv, made once and brought up to date when pyproject.toml changes.
need_venv() {
  local venv=$repository/.venv stamp want
  stamp=$venv/.installed-for
  if [ ! -x "$venv/bin/python" ]; then
    say "making $venv"
    "$(find_python python3 /usr/bin/python3)" -m venv "$venv"
  fi
  want=$(sha256sum <"$repository/pyproject.toml")
  [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
  say "installing Python packages into $venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -e "$repository[test]" ||
    fail "pip could not install the Python packages"
  echo "$want" >"$stamp"
}
