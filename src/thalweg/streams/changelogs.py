"""Methods of `DataStream`: distinct events, and change records of databases as a changelog."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.plan.changes import ChangeRecordsNode, DistinctNode
from thalweg.streams.plan.functions import check_columns

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Changelogs:
    """Distinct events and change records."""

    def distinct(self, *columns: str, ttl: Duration | None = None) -> DataStream:
        """Passes the first event of each combination of these columns' values; null is a value like any other.

        Args:
            columns: without any, the columns that the stream is keyed by.
            ttl: for how long, in event time, later ones are held back; without it for ever, and state grows with the
                combinations.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> driver = TestDriver(App("once").stream("events", timestamp="t").distinct("user", ttl=100))
        >>> driver.send([{"t": 1, "user": "ada"}, {"t": 50, "user": "ada"}, {"t": 101, "user": "ada"}])
        >>> driver.output()["t"].to_list()
        [1, 101]
        """
        stream = cast("DataStream", self)
        names = columns or stream.key_columns
        if not names:
            raise ConfigurationError("distinct: name the columns, or key the stream first")
        check_columns(names, stream.schema, "distinct")
        life = None if ttl is None else milliseconds(ttl, name="ttl", minimum=1)
        return stream._append(DistinctNode, columns=tuple(names), ttl=life)

    def changes(self, *key: str, op: str = "op", before: str = "before", after: str = "after") -> DataStream:
        """Makes a changelog of a database's change records (Debezium's shape): a table by its primary key.

        Creates and reads (c, r) insert the row after, updates (u) set it, deletes (d) take the row before away. What is
        no such record becomes a dead letter.

        Args:
            key: the primary key's columns, fields of the rows.
            op: the column of the operation.
            before: the column of the row before.
            after: the column of the row after.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> driver = TestDriver(App("table").stream("orders.cdc").changes("id"))
        >>> driver.send([
        ...     {"op": "c", "before": None, "after": {"id": 1, "status": "new"}},
        ...     {"op": "d", "before": {"id": 1, "status": "new"}, "after": None},
        ... ])
        >>> driver.output().rows()
        [(1, 'new', 'insert'), (1, 'new', 'delete')]
        """
        if not key:
            raise ConfigurationError("changes: name the columns of the primary key, such as .changes('id')")
        stream = cast("DataStream", self)
        return stream._append(ChangeRecordsNode, keys=tuple(key), op=op, before=before, after=after)
