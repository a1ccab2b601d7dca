# What with-systemd runs first: the service as `scripts/install` leaves it, and a guest "t" for it to protect.
# The checkout is at /mnt; needs $BACKEND for firewall.backend.
mkdir -p /opt/colo-bridge/venv/bin /etc/colo-bridge "/etc/systemd/system/colo-bridge@.service.d"
cat >/opt/colo-bridge/venv/bin/colo-bridge <<'X'
#!/bin/sh
PYTHONPATH=/mnt PYTHONDONTWRITEBYTECODE=1 exec /mnt/.venv/bin/python -m colo_bridge "$@"
X
chmod 755 /opt/colo-bridge/venv/bin/colo-bridge
cp /mnt/systemd/colo-bridge@.service /etc/systemd/system/

# The Python of a checkout may be in somebody's home; an installed service's is not.
cat >"/etc/systemd/system/colo-bridge@.service.d/test.conf" <<'X'
[Service]
ProtectHome=read-only
WatchdogSec=2
X

ip link add cb-tbr0 type bridge
for port in cb-tp0 cb-ts0 cb-tc0; do
  ip link add "$port" type veth peer name "${port}-peer"
  ip link set "${port}-peer" up
done
ip link set cb-tp0 master cb-tbr0
ip link set cb-tc0 master cb-tbr0
ip link set cb-tp0 up
ip link set cb-tc0 up
ip link set cb-tbr0 up

cat >/etc/colo-bridge/t.toml <<X
role = "primary"
guest = "t"
[[nic]]
primary_port = "cb-tp0"
secondary_port = "cb-ts0"
queue = 700
[firewall]
backend = "$BACKEND"
X
