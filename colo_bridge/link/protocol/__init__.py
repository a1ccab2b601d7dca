"""What the two daemons say to each other: bytes and times in, actions out, no sockets."""
