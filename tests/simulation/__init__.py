"""Two replicas and a client, simulated: TCP stacks that differ in everything a guest may choose, and lossy paths.

`scenario.make(seed)` draws one connection, `run.protected` plays it through the real rewriter and comparator,
`run.native` without them.  Everything is a function of the seed; time is a number.
"""
