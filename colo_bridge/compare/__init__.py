"""The comparator: which packets of the primary may leave, and where the replicas differ."""
