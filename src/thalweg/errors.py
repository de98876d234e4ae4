"""Every error that Thalweg raises on purpose: each says what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class ThalwegError(Exception):
    """The base of all errors raised by Thalweg."""


class ConfigurationError(ThalwegError, ValueError):
    """A setting or an argument that can't work, found before anything runs."""


class PlanError(ThalwegError):
    """A logical plan that can't be served: refused before the job starts."""


class MissingExtraError(ThalwegError, ImportError):
    """A part that needs an optional dependency which is not installed; the message names the extra."""


class ConnectorError(ThalwegError):
    """An outside system refused, or could not be reached."""


class FencedError(ConnectorError):
    """Another instance with the same identity has taken over; this one must stop and not retry."""


class RestartRequired(ConnectorError):
    """The open epoch is lost (aborted transaction, rebalance): go on from the last commit."""


class NotReady(ConnectorError):
    """What is needed from outside can't be had just now. Nothing is lost: the same call may succeed later.

    Attributes:
        rows: the records that lack it, by their number in the batch; None: any of them may.
    """

    rows: Sequence[int] | None = None


class SourceClosed(ConnectorError):
    """A source was closed, on purpose, while it was in use."""


class StateError(ThalwegError):
    """Durable state that is missing, incomplete, or of a format this version can't read."""


class OperatorFailed(ThalwegError):
    """An operator, or a user's function that it called, raised; the epoch it was in is not committed.

    The original exception is its `__cause__`.
    """

    def __init__(self, operator_id: str, error: BaseException) -> None:
        super().__init__(f"operator {operator_id!r} failed: {type(error).__name__}: {error}")
        self.operator_id = operator_id
