"""What bytes mean: serial numbers, packet views, TCP options, checksums."""
