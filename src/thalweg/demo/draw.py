"""Small drawing helpers: bars, sparklines, numbers that keep their width."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

ACCENT = "#4cc9f0"
GOOD = "#7bd88f"
WARN = "#fcca5c"
BAD = "#ff6b6b"
DIM = "grey58"
FRAME = "grey35"

SEVERITIES = {"critical": BAD, "high": BAD, "medium": WARN, "low": ACCENT, "info": DIM, "match": WARN}

_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def level(percent: float) -> str:
    """The colour of a load."""
    return GOOD if percent < 60 else WARN if percent < 90 else BAD


def bar(percent: float, width: int, colour: str | None = None) -> Text:
    """A horizontal bar of `width` cells, in eighths of a cell."""
    percent = min(100.0, max(0.0, percent))
    eighths = round(percent / 100 * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    text = Text(drawn, style=colour or level(percent))
    return text.append("·" * (width - len(drawn)), style="grey23")


def sparkline(values: Sequence[float], width: int, colour: str = ACCENT, top: float | None = None) -> Text:
    """The last `width` values as one line of blocks, from 0 to the largest (or `top`)."""
    values = list(values)[-width:]
    highest = max([top or 0.0, *values, 1e-9])
    drawn = "".join(_LEVELS[min(7, int(value / highest * 7.999))] for value in values)
    return Text(drawn.rjust(width), style=colour)


def clock(at: int, milliseconds: bool = False) -> str:
    """Local time of day of ms UTC."""
    text = time.strftime("%H:%M:%S", time.localtime(at / 1000))
    return f"{text}.{at % 1000:03d}" if milliseconds else text


def span(seconds: float) -> str:
    """Minutes and seconds, or hours too.

    >>> span(83), span(3723)
    ('01:23', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes:02d}:{rest:02d}"


def size(count: float) -> str:
    """Bytes in a short form.

    >>> size(0), size(82_300), size(5_230_000)
    ('0 B', '82 kB', '5.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def ms(value: float | None) -> str:
    """Milliseconds in a short form.

    >>> ms(None), ms(3.14), ms(250.0), ms(12_400)
    ('–', '3.1 ms', '250 ms', '12.4 s')
    """
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
