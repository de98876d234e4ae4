"""Named points of the commit protocol at which a test may end, or stop, the process.

`THALWEG_FAULT=kafka.offsets-sent:3` kills it (SIGKILL) the third time it comes there; `…:3:STOP` stops it (SIGSTOP)
until somebody wakes it. Without the variable a point costs one comparison. The tests find the points in the code: what
is named here or there is killed at.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from thalweg.errors import ConfigurationError

VARIABLE = "THALWEG_FAULT"


@dataclass
class _Fault:
    name: str
    left: int
    signal: signal.Signals

    def reached(self, name: str) -> None:
        if name != self.name:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


def _armed(text: str | None) -> _Fault | None:
    """What the variable says.

    >>> _armed("kafka.begun:2:STOP")
    _Fault(name='kafka.begun', left=2, signal=<Signals.SIGSTOP: 19>)
    """
    if not text:
        return None
    name, _, rest = text.partition(":")
    count, _, action = rest.partition(":")
    if not (count or "1").isdigit() or action not in ("", "KILL", "STOP"):
        raise ConfigurationError(f"{VARIABLE}={text!r}: write name, name:count, or name:count:STOP")
    return _Fault(name, int(count or 1), signal.Signals[f"SIG{action or 'KILL'}"])


_fault = _armed(os.environ.get(VARIABLE))


def fault_point(name: str) -> None:
    """Marks a step between which and the next a crash may come."""
    if _fault is not None:
        _fault.reached(name)
