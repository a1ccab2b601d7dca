# Started, it is active and protects; stopped, the kernel is as it was.
. /mnt/tests/systemd/scenario.sh
before=$(show_kernel)
start
is_active || die "not active"
[ "$(count_our_rules)" -gt 0 ] || die "no rule while active"
[ "$(stat -c %a /var/lib/colo-bridge)" = 700 ] || die "others may look for evidence"
[ "$(stat -c %a /run/colo-bridge)" = 711 ] || die "users of control.uids may not enter"
[ "$(find /run/colo-bridge -mindepth 1 -perm /077)" = "" ] || die "others may use what is in the run directory"
systemctl stop "$unit"
[ "$(systemctl show -P Result "$unit")" = success ] || die "the stop was not clean"
[ "$(show_kernel)" = "$before" ] || { diff <(echo "$before") <(show_kernel) || true; die "something is left"; }
[ ! -e /run/colo-bridge/t.sock ] || die "the control socket is left"
