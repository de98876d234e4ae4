"""Tables: a topic or a stream as the latest row of each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.plan.functions import compile_for
from thalweg.streams.plan.table import TableNode

if TYPE_CHECKING:
    from thalweg.streams.app import App
    from thalweg.streams.stream import DataStream


class Table:
    """The latest row of each key. Made by `App.table` and `DataStream.to_table`.

    `stream.join(table)` joins each event with the row that held at its time; `app.query(name, key=…)` asks a running
    job for rows.
    """

    def __init__(self, changes: DataStream) -> None:
        self._changes = changes

    @property
    def key_columns(self) -> tuple[str, ...]:
        """What rows are found by."""
        return self._changes.key_columns

    @property
    def changes(self) -> DataStream:
        """The table's changes as a stream: a changelog, keyed by the table's key."""
        return self._changes

    def __repr__(self) -> str:
        return f"<Table {self._changes.node.describe()}>"


class TableMaking:
    """What `DataStream` has for tables."""

    def to_table(self, *, ttl: Duration | None = None, deleted: Any = None, name: str | None = None) -> Table:
        """Makes a table of a keyed stream: what came last of each key.

        Args:
            ttl: how long a row is kept that is not written again, by event time; without it for ever.
            deleted: an expression or lambda; a row for which it is true deletes its key.
            name: the step's stable id, by which `app.query` finds it.

        Raises:
            PlanError: the stream has no key, or changes without one.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> prices = App("shop").stream("prices", timestamp="t").key_by("item").to_table()
        >>> driver = TestDriver(prices.changes)
        >>> driver.send([{"item": "tea", "price": 5, "t": 0}, {"item": "tea", "price": 6, "t": 1}])
        >>> driver.output().select("price", "__op").rows()
        [(5, 'insert'), (6, 'update')]
        """
        stream = cast("DataStream", self)
        if not stream.key_columns:
            raise PlanError("a table needs a key: give .key_by(…) before .to_table()")
        life = None if ttl is None else milliseconds(ttl, name="ttl", minimum=1)
        compiled = None
        if deleted is not None:
            compiled = compile_for(deleted, "predicate", stream.schema, "to_table, deleted")
            if not compiled.vectorised:
                raise ConfigurationError(f"to_table: deleted must be an expression: {compiled.reason}")
        return Table(stream._append(TableNode, keys=stream.key_columns, ttl=life, deleted=compiled, uid=name))


class AppTables:
    """What `App` has for tables."""

    def table(
        self,
        topic: str,
        *,
        key: str | Sequence[str],
        ttl: Duration | None = None,
        deleted: Any = None,
        name: str | None = None,
        tombstones: str = "delete",
        **settings: Any,
    ) -> Table:
        """Reads a topic as a table: what came last of each key.

        Args:
            topic: such as a compacted topic of reference data.
            key: the key column, or several.
            ttl: as in `DataStream.to_table`.
            deleted: likewise.
            name: likewise; the topic's name where it is not given.
            tombstones: what a record without a value is: a "delete" of its key (the record key: the text of the key
                column, or a JSON object with the key columns), a "dead-letter", or nothing ("skip"). A delete has no
                event time of its own: where `timestamp` is a column, it counts as of the latest event of its partition.
            settings: of the stream (see `App.stream`).
        """
        from thalweg.streams.stream import DataStream

        keys = [key] if isinstance(key, str) else list(key)
        if tombstones == "delete":
            settings["tombstone_keys"] = tuple(keys)
        stream = DataStream(topic, app=cast("App", self), tombstones=tombstones, **settings)
        stream = stream if tombstones == "delete" else stream.key_by(*keys)
        return stream.to_table(ttl=ttl, deleted=deleted, name=name or f"table-{topic}")
