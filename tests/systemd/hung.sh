# A daemon that hangs is killed by the watchdog and started again.
. /mnt/tests/systemd/scenario.sh
start
first=$(main_pid)
kill -STOP "$first"
wait_for is_active_as_other_than "$first"
[ "$(systemctl show -P NRestarts "$unit")" -ge 1 ] || die "no restart was counted"
