"""Interactive queries: what a running job has computed so far, as of its last commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.streams.engine.requests import Boundary, Requests

NOT_GIVEN = object()


class Querying:
    """Mixin of `App`: `query`."""

    if TYPE_CHECKING:
        _requests: Requests

    def query(self, name: str, key: Any = NOT_GIVEN, *, timeout: Duration = "10s") -> pl.DataFrame:
        """The current results of a step, from any thread while the job runs; read-only.

        It waits for the next commit (brought forward) and shows what that commit has made durable: not more than
        readers of the job's output can see, and nothing that a crash could undo.

        On several workers it shows the keys of this one.

        Args:
            name: the step's `.uid(…)`, or its id in `app.status()`.
            key: one key: its value; a tuple, or a dict by column, where there are several key columns. Without it all
                keys.
            timeout: how long to wait for the commit.

        Returns:
            A frame. Windows: a row per key and open window with the results so far. Aggregates over all time: a row per
            key. `process`: the key columns and each state by name. Empty where the key has nothing.

        Raises:
            ConfigurationError: no such step, or a key that does not fit its key columns.
            StateError: the job is not running, does not answer in time, or the step keeps nothing to be asked for.
        """
        seconds = milliseconds(timeout, name="timeout", minimum=1) / 1000

        def answer(boundary: Boundary) -> pl.DataFrame:
            return results_of(boundary, name, key)

        result: pl.DataFrame = self._requests.ask(answer, timeout=seconds)
        return result


def results_of(boundary: Boundary, name: str, key: Any) -> pl.DataFrame:
    """The results of one step, of one key or of all."""
    stages = boundary.dataflow.stages
    operators = [stage.operator for stage in stages if stage.operator.id == name]
    if not operators:
        known = ", ".join(dict.fromkeys(stage.operator.id for stage in stages if stage.stateful))
        raise ConfigurationError(f"query: no step {name!r}; with state there are: {known or 'none'}")
    keys = None if key is NOT_GIVEN else frame_of_key(key, list(getattr(operators[0], "keys", ())), name)
    # Behind an exchange the step runs once per partition.
    return pl.concat([operator.query(keys) for operator in operators], how="diagonal_relaxed")


def frame_of_key(key: Any, columns: Sequence[str], name: str) -> pl.DataFrame:
    """One key as a frame of its columns.

    >>> frame_of_key(("a", 1), ["user", "day"], "averages").to_dicts()
    [{'user': 'a', 'day': 1}]
    """
    if not columns:
        raise ConfigurationError(f"query: {name!r} has no key columns; leave the key out")
    if isinstance(key, Mapping):
        values = dict(key)
    elif len(columns) == 1:
        values = {columns[0]: key}
    elif isinstance(key, tuple) and len(key) == len(columns):
        values = dict(zip(columns, key, strict=True))
    else:
        raise ConfigurationError(f"query: a key of {name!r} is {', '.join(columns)}; give a tuple or a dict of them")
    if set(values) != set(columns):
        raise ConfigurationError(f"query: a key of {name!r} is {', '.join(columns)}; got {', '.join(values)}")
    return pl.DataFrame({column: [values[column]] for column in columns})


def matching(frame: pl.DataFrame, keys: pl.DataFrame | None) -> pl.DataFrame:
    """The rows of these keys; null is a key like any other."""
    if keys is None or not keys.width:
        return frame
    wanted = keys.cast({name: frame.schema[name] for name in keys.columns}, strict=False)
    return frame.join(wanted, on=keys.columns, how="semi", nulls_equal=True)
