# What every scenario begins with: sourced inside with-systemd.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
unit=colo-bridge@t
colo_bridge=/opt/colo-bridge/venv/bin/colo-bridge
configuration=/etc/colo-bridge/t.toml

die() {
  echo "FAILED: $*"
  systemctl status --no-pager --full "$unit" || true
  show_kernel
  exit 1
}

# wait_for COMMAND…: until it succeeds, 20 s at most.
wait_for() {
  local end=$((SECONDS + 20))
  until "$@"; do
    [ $SECONDS -lt $end ] || die "waited for: $*"
    sleep 0.05
  done
}

main_pid() { systemctl show -P MainPID "$unit"; }
is_active() { [ "$(systemctl is-active "$unit")" = active ]; }
is_protected() { "$colo_bridge" status "$configuration" >/dev/null; }
is_active_as_other_than() { is_active && [ "$(main_pid)" != "$1" ] && is_protected; }
rules() { { iptables-legacy-save; iptables-nft-save; ip6tables-legacy-save; ip6tables-nft-save; } 2>/dev/null; }
count_our_rules() { rules | grep -c 'colo-bridge:' || true; }
# Everything of the kernel's that the daemon may have touched, without counters and indexes.
show_kernel() {
  rules | grep -e '^-A' || true
  ip -br link | awk '{print $1}' | sort
  local device
  for device in $(ip -br link | awk '{print $1}' | cut -d@ -f1); do
    tc qdisc show dev "$device" | grep -e clsact -e ingress || true
    tc filter show dev "$device" ingress 2>/dev/null || true
    tc filter show dev "$device" egress 2>/dev/null || true
  done
  ip -d link show cb-tbr0 | grep -o 'nf_call_[a-z0-9]* [01]' || true
}
start() { systemctl start "$unit" || die "start"; wait_for is_protected; }
