# Killed, its rules stay; systemd starts it again, it takes them over, and a clean stop removes them.
. /mnt/tests/systemd/scenario.sh
before=$(show_kernel)
start
rules_before=$(count_our_rules)
first=$(main_pid)
kill -KILL "$first"
[ "$(count_our_rules)" -eq "$rules_before" ] || die "a rule went with the daemon"
wait_for is_active_as_other_than "$first"
[ "$(count_our_rules)" -eq "$rules_before" ] || die "the rules were not taken over, but doubled or lost"
systemctl stop "$unit"
[ "$(show_kernel)" = "$before" ] || { diff <(echo "$before") <(show_kernel) || true; die "something is left"; }
