"""The exchange: how rows get to the worker that keeps their key's state, when there are several workers.

A job has one exchange topic (`<job>-exchange`), with as many partitions as the job has state partitions. Every edge of
the plan on which rows must move writes to it; whoever reads partition q keeps all state of the key groups of state
partition q. `edges` says where rows must move, `writer` and `reader` are the two ends, `record` is the wire form
between them, `tasks` runs what lies behind the exchange: once per partition, so that a partition's results depend on
its own records only, whoever reads it.
"""
