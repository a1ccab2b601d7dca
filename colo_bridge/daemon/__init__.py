"""The running service: wiring, control socket, systemd notification."""
