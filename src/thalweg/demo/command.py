"""`thalweg demo`: starts the parts, shows them, ends them."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from thalweg.demo.screen import Moment

DEFAULT_FILE = Path(".thalweg") / "demo.db"

BURST_SECONDS = 4.0
BURST_AFTER = 6.0


def demo(
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds, with a summary.", min=1)] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live view.")] = False,
    data: Annotated[Path, typer.Option(help="The embedded log; a second start goes on from it.")] = DEFAULT_FILE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: delete the log first.")] = False,
    rate: Annotated[int, typer.Option(help="Ordinary events per second.", min=10, max=100_000)] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the traffic and what is hidden in it.", min=0)] = 7,
    cpu_threshold: Annotated[
        float, typer.Option(help="Alert when a core is above it over 1 s.", min=1, max=100)
    ] = 90.0,
    burst: Annotated[bool, typer.Option(help="Burn one core for 4 s, so that there is a CPU alert.")] = True,
    screenshot: Annotated[Path | None, typer.Option(help="Write the last view as SVG.")] = None,
    size: Annotated[str, typer.Option(help="Columns x rows of the screenshot.")] = "120x36",
) -> None:
    """The main job, live: this machine's vitals and seeded traffic through windows, patterns and alerts."""
    columns, rows = _size(size)
    console = Console()
    if fresh:
        _remove(data)
    from thalweg.errors import ThalwegError

    try:
        clean = Demo(data, rate, seed, cpu_threshold, burst, seconds).run(console, plain, screenshot, columns, rows)
    except ThalwegError as error:
        Console(stderr=True).print(f"thalweg demo: {error}", style="bold red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    if not clean:
        raise typer.Exit(2)


def _size(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit() and int(columns) >= 80 and int(rows) >= 24):
        raise typer.BadParameter(f"{text!r}: use columns x rows, at least 80x24, such as 120x36", param_hint="--size")
    return int(columns), int(rows)


def _remove(data: Path) -> None:
    from thalweg.demo.job import alert_stores

    for name in (data, *alert_stores(data)):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{name}{suffix}").unlink(missing_ok=True)


class Demo:
    """One run of the demo.

    Args:
        data: the log.
        rate, seed: of the traffic.
        threshold: of the CPU rule, percent.
        burst: whether to burn a core for a moment.
        seconds: how long; None: until it is stopped.
    """

    def __init__(self, data: Path, rate: int, seed: int, threshold: float, burst: bool, seconds: float | None) -> None:
        from thalweg.demo import job
        from thalweg.demo.board import Board
        from thalweg.demo.feed import Feed
        from thalweg.demo.screen import Gatherer
        from thalweg.demo.traffic import Traffic
        from thalweg.demo.vitals import Burst

        at = BURST_AFTER if seconds is None else min(BURST_AFTER, max(0.0, seconds / 2 - BURST_SECONDS / 2))
        self._seconds = seconds
        self._feed = Feed(data, Traffic(seed, rate), Burst(BURST_SECONDS) if burst else None, at if burst else None)
        self._board = Board(self._feed.score)
        self._job = job.build(data, self._board, threshold)
        self._gatherer = Gatherer(self._job.app, self._board, self._feed, data, threshold, seconds)
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._engine = threading.Thread(target=self._run_job, name="demo-job")

    def _run_job(self) -> None:
        try:
            self._job.app.run()
        except BaseException as error:  # raised again by the main thread
            self._error = error
            self._stop.set()

    def run(self, console: Console, plain: bool, screenshot: Path | None, columns: int, rows: int) -> bool:
        """Shows the demo until it ends; true when everything hidden was found and nothing else.

        Raises:
            ThalwegError: what stopped the job.
        """
        from thalweg.demo import lines

        live = console.is_terminal and not plain and console.width >= 80 and console.height >= 24
        horizon = 600 if self._seconds is None else int(self._seconds * 10)
        for line in lines.opening(self._gatherer.moment(horizon), self._seconds):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        with _signals(self._stop):
            self._engine.start()
            try:
                if self._is_up(console):
                    self._feed.start()
                    self._gatherer.begin()
                    if live:
                        self._show_live(console)
                    else:
                        self._show_lines(console)
                last = self._gatherer.moment()
            finally:
                self._feed.stop()
                self._job.app.stop()
                self._engine.join()
                self._job.close()
        self._raise()
        if screenshot is not None:
            _picture(last, screenshot, columns, rows)
        final = self._gatherer.moment(0)
        for text in lines.closing(final):
            console.print(text, highlight=False, soft_wrap=True)
        return final.summary.clean

    def _is_up(self, console: Console) -> bool:
        """Waits until the job runs: the first start compiles kernels, which must not cost the demo its seconds."""
        started, told = time.monotonic(), False
        while not self._stop.wait(0.02):
            if self._job.app.status().state == "running":
                return True
            if not told and time.monotonic() > started + 3:
                console.print("compiling the kernels (only the first time) …", markup=False, highlight=False)
                told = True
        return False

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self._feed.error is not None:
            raise self._feed.error

    def _waits(self, pause: float) -> Iterator[None]:
        """Until the time is up, a signal came, or a part failed."""
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        while not self._stop.is_set() and self._feed.error is None:
            yield
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                return
            self._stop.wait(left)

    def _show_live(self, console: Console) -> None:
        from rich.live import Live

        from thalweg.demo.view import View

        with Live(console=console, screen=True, auto_refresh=False) as live:
            for _ in self._waits(0.25):
                live.update(View(self._gatherer.moment()), refresh=True)

    def _show_lines(self, console: Console) -> None:
        from thalweg.demo import lines

        shown = 0
        for number, _ in enumerate(self._waits(0.25)):
            moment = self._gatherer.moment()
            notes = [note for note in moment.shown.notes if note.at > shown]
            for note in notes:
                shown = max(shown, note.at)
                text = lines.note_line(note.at, note.severity, note.label, note.text)
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            if number % 8 == 7:
                for line in (lines.status_line(moment), lines.window_line(moment)):
                    if line:
                        console.print(line, markup=False, highlight=False, soft_wrap=True)
        sys.stdout.flush()


def _picture(moment: Moment, path: Path, columns: int, rows: int) -> None:
    """The view of a moment as SVG, exactly as a terminal of this size shows it."""
    import io

    from thalweg.demo.view import View

    canvas = Console(
        file=io.StringIO(), width=columns, height=rows, force_terminal=True, color_system="truecolor", record=True
    )
    canvas.print(View(moment), end="")
    # Without the fonts and the comment that would be fetched from, or point to, other places.
    drawn = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", canvas.export_svg(title="make demo"), flags=re.DOTALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(drawn, encoding="utf-8")


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the demo cleanly; a second one ends it at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
