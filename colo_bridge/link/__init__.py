"""The link between the two hosts: one stream for each NIC and one for control, with TLS off the host."""
