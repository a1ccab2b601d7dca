# The unit file says nothing that systemd does not understand.
. /mnt/tests/systemd/scenario.sh
said=$(systemd-analyze verify "/etc/systemd/system/$unit.service" 2>&1) || die "$said"
[ -z "$said" ] || die "$said"
