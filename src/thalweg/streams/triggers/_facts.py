"""What is known of each window of each key beside its contents: one row of whole numbers per window, by column.

The trigger's own state follows after these columns.
"""

from __future__ import annotations

END, INDEX, LATER, HOLD, ARMED, FINISHED, SENT, SENT_START, SENT_END = range(9)
"""END: of the window. INDEX: panes so far. LATER: of these the ones that were not early. HOLD: the pane's time so far.
ARMED: the trigger is to be asked when the watermark passes the end. FINISHED: the trigger. SENT: a pane has been
given that still stands, for the window SENT_START to SENT_END."""
WIDTH = 9

NO_HOLD = -(2**62) - 1
"""No event has set the pane's time yet."""

END_OF_WINDOW, EARLIEST, LATEST = 0, 1, 2
"""What the time of a pane is."""

EARLY, ON_TIME, LATE = 0, 1, 2
TIMINGS = ("early", "on_time", "late")

SLOT, ROUND, START, STOP, NUMBER, LATER_NUMBER, TIMING, FINAL, TIME = range(9)
"""Columns of a log of panes: which window, which of its panes in this go, its bounds, and what is told of the pane."""
LOG_WIDTH = 9
