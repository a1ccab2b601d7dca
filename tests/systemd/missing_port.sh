# A guest port that is missing is said in one sentence, and the service starts once it is there.
. /mnt/tests/systemd/scenario.sh
journal() { journalctl --no-pager -q -u "$unit"; }
names_the_port() { journal | grep -q 'error: .*cb-ts0'; }
ip link del cb-ts0
if systemctl start "$unit" 2>/dev/null; then die "started without a guest port"; fi
wait_for names_the_port
if journal | grep Traceback; then die "a traceback"; fi
ip link add cb-ts0 type veth peer name cb-ts0-peer
wait_for is_protected
