# What install and uninstall agree on: sourced after lib.sh.
unit=/etc/systemd/system/colo-bridge@.service
sample=/etc/colo-bridge/example.toml.sample

# read_prefix [--prefix DIR]: sets prefix and venv.
read_prefix() {
  prefix=/opt/colo-bridge
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) sed -n 's/^# //p' "$0"; exit 0 ;;
      --prefix) prefix=${2:-}; shift; [ $# -eq 0 ] || shift ;;
      --prefix=*) prefix=${1#*=}; shift ;;
      *) fail "unknown argument '$1' (see --help)" ;;
    esac
  done
  case $prefix in
    /*[!/]*) ;;
    *) fail "--prefix takes an absolute directory other than /" ;;
  esac
  case $prefix in
    *[!A-Za-z0-9/._-]*) fail "--prefix takes letters, digits and /._- only" ;;
  esac
  venv=$prefix/venv
}

has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

reload_systemd() { ! has_systemd || systemctl daemon-reload; }

# A guest that is still diverted would be cut off for good without the program that mends or cleans it up.
refuse_while_in_use() {
  if has_systemd && systemctl list-units -q --no-legend --state=active,activating 'colo-bridge@*' | grep -q .; then
    fail "instances are running; stop them first: systemctl disable --now 'colo-bridge@*'"
  fi
  local state
  for state in /run/colo-bridge/*.json; do
    [ ! -e "$state" ] ||
      fail "$state says that a guest is still diverted; run '$venv/bin/colo-bridge cleanup FILE' first"
  done
}
