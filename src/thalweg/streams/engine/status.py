"""What a running job says of itself: plain snapshots, safe to read from any thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.streams.operator import Account, Memory


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """One operator and where its rows went."""

    id: str
    account: Account
    batches: int
    stateful: bool
    memory: Memory = field(default_factory=Memory)
    """State held, as of the last second."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source."""

    topic: str
    received: int
    """Records since the start, readable or not."""
    rate: float
    """Records per second over the last few seconds."""
    watermark: int | None
    """ms UTC; None before the first event."""
    lag: int
    """Records between position and end, all partitions together, as last known to the broker's client."""
    queued: int
    """Records read and not yet processed."""
    idle_partitions: int


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """Commits since the start."""

    count: int = 0
    last_ms: float = 0.0
    longest_ms: float = 0.0
    last_state_bytes: int = 0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    delta_bytes: int = 0
    """State deltas since the last checkpoint."""


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """Checkpoints (full snapshots: on Kafka beside the commits, else each part of one) since the start."""

    enabled: bool = True
    count: int = 0
    last_bytes: int = 0
    last_ms: float = 0.0
    """From the snapshot until it was durable."""
    longest_ms: float = 0.0
    under_way_ms: float | None = None
    """How long the one at hand has taken so far; None: there is none."""
    progress: float | None = None
    """How much of it is written out, 0 to 1, by operators; at 1 it waits for the broker."""
    abandoned: int = 0
    """How many took longer than their timeout, or failed: the one before stands."""
    next_in_ms: float | None = None
    """When the next is due at the latest, if anything changes; None: only when the deltas outgrow the state."""


@dataclass(frozen=True, slots=True)
class StateStatus:
    """Working state and its backend; what an operator holds is in its own status."""

    backend: str = "memory"
    limit: int | None = None
    """Bytes that state may take in memory; None: no limit."""
    resident_bytes: int = 0
    """What it takes in memory, where there is a limit."""
    spilled_bytes: int = 0
    """Written to the backend since the start, before compression."""
    loaded_bytes: int = 0
    """Read back from it since the start."""


@dataclass(frozen=True, slots=True)
class LatencyStatus:
    """From the source's read of a batch's oldest record until its results were out, in ms; over the last batches.

    "Out" is: processed and handed to the broker's client (at-least-once), or committed (exactly-once).
    """

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class PressureStatus:
    """What waits in the job's queues. Each is bounded: where a sink stalls, reading stops and memory stays flat."""

    stalled: bool = False
    """Processing waits for the commit under way, because as much output as may has piled up behind it."""
    stalled_ms: float = 0.0
    """How long it has waited so, since the start."""
    pending_rows: int = 0
    """Rows that wait for the next commit: output, and rows on their way to other workers."""
    pending_bytes: int = 0
    pending_limit: int = 0
    """How many rows may."""
    queued_rows: int = 0
    """Records read ahead and not yet processed, all sources together."""
    queued_bytes: int = 0
    queued_limit: int = 0
    """How many records may be read ahead; the last poll comes on top."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment."""

    name: str
    state: str
    """"new", "starting", "running", "restarting", "stopping", "stopped" or "failed"."""
    guarantee: str = ""
    uptime_ms: int = 0
    clock: int = 0
    sources: Sequence[SourceStatus] = ()
    operators: Sequence[OperatorStatus] = ()
    commits: CommitStatus = field(default_factory=CommitStatus)
    checkpoint: CheckpointStatus = field(default_factory=CheckpointStatus)
    state_backend: StateStatus = field(default_factory=StateStatus)
    latency: LatencyStatus = field(default_factory=LatencyStatus)
    pressure: PressureStatus = field(default_factory=PressureStatus)
    written: int = 0
    dead: int = 0
    late: int = 0
    restarts: int = 0
    error: str | None = None

    @property
    def rate(self) -> float:
        """Records per second over all sources."""
        return sum(source.rate for source in self.sources)

    @property
    def received(self) -> int:
        """Records since the start over all sources."""
        return sum(source.received for source in self.sources)


class Latencies:
    """The last few thousand latencies."""

    def __init__(self, keep: int = 4096) -> None:
        self._values: deque[float] = deque(maxlen=keep)

    def add(self, milliseconds: float) -> None:
        """Takes one more, forgets the oldest."""
        self._values.append(milliseconds)

    def status(self) -> LatencyStatus:
        """Their percentiles (nearest rank)."""
        values = sorted(self._values)
        if not values:
            return LatencyStatus()
        return LatencyStatus(*(values[min(len(values) - 1, int(len(values) * p))] for p in (0.5, 0.95, 0.99, 1.0)))


class Rate:
    """A count per second over the last few seconds."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._seconds = seconds
        self._points: deque[tuple[float, int]] = deque()

    def at(self, now: float, total: int) -> float:
        """Takes the total so far, gives the rate."""
        self._points.append((now, total))
        while len(self._points) > 2 and self._points[1][0] <= now - self._seconds:
            self._points.popleft()
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0


def copy_accounts(accounts: Mapping[str, Account]) -> dict[str, Account]:
    """Accounts as they are now: the engine goes on counting in its own."""
    return {name: _copy(account) for name, account in accounts.items()}


def _copy(a: Account) -> Account:
    return Account(a.received, a.passed, a.absorbed, a.filtered, a.late, a.dead, a.emitted)


def unclosed(accounts: Mapping[str, Account]) -> Iterable[str]:
    """The operators whose account does not close: a defect of theirs."""
    return (name for name, account in accounts.items() if not account.closes)
