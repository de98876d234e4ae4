"""What every operator of the local engine is: four methods and an account."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import polars as pl

from thalweg.errors import StateError
from thalweg.streams.batch import Batch, Watermark


@dataclass(slots=True)
class Account:
    """Where an operator's input rows went. `closes` holds for every operator at any time; outputs count apart."""

    received: int = 0
    passed: int = 0  # left by the main port as they came (possibly transformed)
    absorbed: int = 0  # taken into state
    filtered: int = 0
    late: int = 0  # fully late: in no open window
    dead: int = 0
    emitted: int = 0  # output rows of all ports but DEAD; counted by the engine, not part of the balance

    @property
    def closes(self) -> bool:
        return self.received == self.passed + self.absorbed + self.filtered + self.late + self.dead

    def add(self, other: Account) -> None:
        """Adds another's counts: the same operator in another task."""
        for part in fields(Account):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))


@dataclass(slots=True)
class StateDelta:
    """How an operator's state changed since the snapshot before: drops first, then puts.

    State is a log of named frames: a put appends a frame to its name, a drop voids all frames that the name had.
    Every frame has a `KEY_GROUP` column (UInt16), by which the engine lays state out and hands it over; a name whose
    content belongs to no key (a clock, say) uses key group 0 in every frame.
    """

    drops: Sequence[str] = ()
    puts: Sequence[tuple[str, pl.DataFrame]] = ()
    full: bool = False
    """The puts are the whole state; all that came before is void."""

    def __bool__(self) -> bool:
        return bool(self.drops or self.puts or self.full)


State = Mapping[str, Sequence[pl.DataFrame]]
"""What `restore` gets: for each live name its frames in the order in which they were put."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What an operator holds in state now."""

    rows: int = 0
    """State rows: partial results, waiting events, keys; a group that is kept in several parts counts each time."""
    bytes: int = 0
    """Their size as columns in memory, about; what is spilled to a state backend does not count."""

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rows + other.rows, self.bytes + other.bytes)


class Operator(ABC):
    """One step of the running job. Single-threaded; batches of one input come in order.

    An operator keeps its account: it adds to `account.received` what it gets and books every input row in exactly one
    of the other columns. It must give the same results however its input was cut into batches.
    """

    def __init__(self, operator_id: str) -> None:
        self.id = operator_id
        self.account = Account()
        self.clock = 0
        """The job's clock, ms UTC (virtual in the test driver): the engine sets it before every call."""
        self.late_letters = True
        """Whether what leaves by the late port may become dead letters, besides going to who reads that port."""
        self.read = True
        """Whether a step reads the main port: rows that nobody reads need not be made."""

    def warm_up(self) -> None:
        """Loads (or compiles) the kernels that it will need, so that the first event does not wait for them."""

    @abstractmethod
    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Takes rows from input number `port`; yields what comes out."""

    def on_watermark(self, watermark: Watermark) -> Iterable[Batch]:
        """Takes the minimum watermark of the operator's inputs; yields what it lets go (closed windows, matches)."""
        return ()

    def output_watermark(self, watermark: Watermark) -> Watermark:
        """What the next operator sees after `on_watermark`: by default the same. Never more than it can keep."""
        return watermark

    def snapshot(self, *, full: bool = False) -> StateDelta:
        """The state's change since the last snapshot, or all of it. Cheap: frames are shared, not copied."""
        return StateDelta()

    def restore(self, state: State) -> None:
        """Takes back what snapshots gave; called once, before the first batch, possibly with some key groups only."""

    def memory(self) -> Memory:
        """How much state it holds, for `app.status()`; cheap, called about once a second."""
        return Memory()

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """The current results of these keys (a frame of the key columns), or of all: for `app.query`.

        Called on the engine's thread, between two batches.

        Raises:
            StateError: this step keeps nothing that can be asked for.
        """
        raise StateError(f"{self.id} keeps no results that can be queried: ask a window, an aggregate or process()")

    def under_way(self) -> int:
        """Input rows that are being worked on elsewhere (calls to services): the job is not done before they are."""
        return 0

    def congested(self) -> bool:
        """Whether so much is under way that sources should not be read for now."""
        return False

    def close(self) -> None:
        """Frees what the operator holds; called once at the end, also after errors."""


@dataclass(slots=True)
class OperatorContext:
    """What a plan node may use to build its operator."""

    operator_id: str
    input_schemas: Sequence[pl.Schema | None]
    """The user's columns of each input; None where they can't be known before data comes."""
    key_groups: int = 128
    job_name: str = "job"
    options: Mapping[str, object] = field(default_factory=dict)


def drain(outputs: Iterable[Batch]) -> Iterator[Batch]:
    """Skips the empty batches."""
    return (batch for batch in outputs if batch)
