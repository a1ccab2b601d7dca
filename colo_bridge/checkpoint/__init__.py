"""When to ask for a checkpoint and what became of it; the asking itself is in `providers`."""
