"""What a running job asks of the interpreter's collector, and of the allocator."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import ExitStack


def leave_out_of_collection(until: ExitStack) -> None:
    """What there is by now is not looked through by the collector, until the stack ends.

    Libraries, compiled kernels and the plan stay as long as a job runs, about a million objects. A full collection,
    which comes every few seconds, walked through all of them, and nothing else ran for 80 ms.
    """
    gc.freeze()
    until.callback(gc.unfreeze)


def give_back(error: BaseException | None) -> None:
    """Frees what a session held that was lost by this error; its frames are large, and the next one's come on top.

    The stack of the error, and of what led to it, reaches the session; the rest hangs in cycles. Each session has new
    threads, and glibc keeps what each of them freed for its own later use: it is asked to let go.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
