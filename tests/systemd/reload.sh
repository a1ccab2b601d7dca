# Reloaded, it takes over a rule and goes on; a file that is wrong changes nothing.
. /mnt/tests/systemd/scenario.sh
start
pid=$(main_pid)
has_rule() { "$colo_bridge" passthrough list "$configuration" | grep -q '^ssh .* configured'; }
printf '[[passthrough]]\nname = "ssh"\nguest_ports = 22\n' >>"$configuration"
systemctl reload "$unit"
wait_for has_rule
sed -i 's/queue = 700/queue = 701/' "$configuration"
refusal=$("$colo_bridge" reload --guest t 2>&1) && die "another queue is taken over"
[[ $refusal = *"a change of nic[1].queue needs a restart" ]] || die "refused otherwise: $refusal"
systemctl reload "$unit"
has_rule || die "the rule is gone"
is_protected || die "not protected"
[ "$(main_pid)" = "$pid" ] || die "it is another process"
