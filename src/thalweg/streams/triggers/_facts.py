"""What is known of each window of each key beside its contents: one row of whole numbers per window, by column.

The trigger's own state follows after these columns, and after that two columns (`SCRATCH`) that are not saved.
"""

from __future__ import annotations

END, INDEX, LATER, HOLD, ARMED, FINISHED = range(6)
"""END: of the window. INDEX: panes so far. LATER: of these the ones that were not early. HOLD: the pane's time so far.
ARMED: the trigger is to be asked when the watermark passes the end. FINISHED: the trigger."""
WIDTH = 6

TURNS, CELL = -2, -1
"""How many panes the window has given in this go of the operator; the cell that its next event goes to, -1: a new one.

A cell is what came to a window between two of its panes: events are added up by cell."""
SCRATCH = 2

NO_HOLD = -(2**62) - 1
"""No event has set the pane's time yet."""

CELL_SLOT, CELL_ROUND = 0, 1
"""Columns of a list of cells: which window, and after how many of its panes in this go."""

END_OF_WINDOW, EARLIEST, LATEST = 0, 1, 2
"""What the time of a pane is."""

EARLY, ON_TIME, LATE = 0, 1, 2
TIMINGS = ("early", "on_time", "late")

SLOT, ROUND, START, STOP, NUMBER, LATER_NUMBER, TIMING, FINAL, TIME = range(9)
"""Columns of a log of panes: which window, which of its panes in this go, its bounds, and what is told of the pane."""
LOG_WIDTH = 9
