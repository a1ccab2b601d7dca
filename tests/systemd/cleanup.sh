# Killed and not restarted, its rules stay until `cleanup`.
. /mnt/tests/systemd/scenario.sh
before=$(show_kernel)
start
mkdir -p "/run/systemd/system/$unit.service.d"
printf '[Service]\nRestart=no\n' >"/run/systemd/system/$unit.service.d/once.conf"
systemctl daemon-reload
kill -KILL "$(main_pid)"
wait_for systemctl is-failed --quiet "$unit"
[ "$(count_our_rules)" -gt 0 ] || die "the rules went with the daemon"
"$colo_bridge" cleanup "$configuration"
[ "$(count_our_rules)" -eq 0 ] || die "a rule is left after cleanup"
"$colo_bridge" cleanup --force "$configuration"
[ "$(show_kernel)" = "$before" ] || { diff <(echo "$before") <(show_kernel) || true; die "something is left"; }
