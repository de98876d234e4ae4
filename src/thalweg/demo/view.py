"""The live view: one screen that follows the terminal's size, from 80 × 24 up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.align import Align
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from thalweg.demo.attacks import Kind
from thalweg.demo.board import Shown
from thalweg.demo.draw import (
    ACCENT,
    BAD,
    DIM,
    FRAME,
    GOOD,
    SEVERITIES,
    WARN,
    bar,
    clock,
    level,
    ms,
    size,
    span,
    sparkline,
)
from thalweg.demo.score import State, Verdict
from thalweg.demo.screen import Moment

TITLE = "#e5e9f0"

_STATES = {
    State.COMING: ("·", DIM),
    State.UNDER_WAY: ("▸", ACCENT),
    State.FOUND: ("✓", GOOD),
    State.MISSED: ("✗", BAD),
    State.IGNORED: ("–", DIM),
    State.FALSE: ("✗", BAD),
}


class View:
    """Draws a moment into whatever space there is."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        moment = self._moment
        middle = max(8, min(16, (height - 7) * 11 // 23))
        layout = Layout()
        layout.split_column(
            Layout(_header(moment), size=1),
            Layout(_flow(moment), size=5),
            Layout(name="now", size=middle),
            Layout(name="found"),
            Layout(_footer(moment), size=1),
        )
        layout["now"].split_row(
            Layout(_machine(moment), ratio=36), Layout(_routes(moment), ratio=38), Layout(_payments(moment), ratio=26)
        )
        layout["found"].split_row(Layout(_hidden(moment), ratio=1), Layout(_feed(moment), ratio=1))
        yield from console.render(layout, options.update(height=height))


class Fit:
    """Content that is made for the space it gets: `make(width, height)` gives its lines."""

    def __init__(self, make: Callable[[int, int], Sequence[RenderableType]]) -> None:
        self._make = make

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        lines = self._make(options.max_width, height)
        for line in lines:
            if isinstance(line, Text):
                line.rstrip()
                line.truncate(options.max_width, overflow="ellipsis")
        content = Group(*lines) if lines else Align.center(Text("nothing yet", style=DIM), vertical="middle")
        yield from console.render(content, options)


def _panel(content: RenderableType, title: str, subtitle: str = "") -> Panel:
    return Panel(
        content,
        title=Text.from_markup(f"[bold {TITLE}]{title}[/]"),
        title_align="left",
        subtitle=Text(subtitle, style=DIM) if subtitle else None,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style=FRAME,
        padding=(0, 1),
    )


def _sides(left: Text, right: Text) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _header(moment: Moment) -> RenderableType:
    left = Text.assemble((" ≋ thalweg ", f"bold black on {ACCENT}"), ("  demo", "bold"))
    left.append("  this machine's vitals and seeded traffic, one job", style=DIM)
    state = moment.status.state
    right = Text.assemble((f"{state} ", GOOD if state == "running" else WARN), (span(moment.elapsed), "bold"))
    if moment.ends_after is not None:
        right.append(f" of {span(moment.ends_after)}", style=DIM)
    return _sides(left, right.append(" "))


def _footer(moment: Moment) -> RenderableType:
    log = f" {moment.file}  {size(moment.file_bytes)}   seed {moment.seed}"
    left = Text(log + ("   went on where it was" if moment.resumed else ""), style=DIM)
    return _sides(left, Text("Ctrl-C ends; the next start goes on from there ", style=DIM))


def _flow(moment: Moment) -> RenderableType:
    return _panel(
        Fit(lambda width, height: [_flow_grid(moment, width)]), "Flow", "latency: from the source's read to the commit"
    )


def _flow_grid(moment: Moment, width: int) -> Table:
    status, latency, commits = moment.status, moment.status.latency, moment.status.commits
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    for ratio in (9, 5, 6):
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
    behind = None if moment.watermark is None else max(0, moment.now - moment.watermark)
    rate = _pair("events/s", f"{moment.rate:>7,.0f} ", "bold")
    grid.add_row(
        rate.append_text(
            sparkline(moment.rates, max(8, width * 9 // 20 - 22), top=1.3 * max(moment.rates, default=0.0))
        ),
        _pair("latency p50", ms(latency.p50), f"bold {GOOD}"),
        _pair("watermark", "–" if moment.watermark is None else clock(moment.watermark, milliseconds=True), "bold"),
    )
    grid.add_row(
        _pair("events", f"{status.received:>9,} ", "bold").append(f" lag {moment.lag:,}", style=DIM),
        _pair("p95", ms(latency.p95)).append("  p99 ", style=DIM).append(ms(latency.p99)),
        _pair("", f"{ms(behind)} behind the clock", DIM),
    )
    results = moment.shown.windows + moment.shown.matches + moment.shown.alerts
    grid.add_row(
        _pair("results", f"{results:>8,} ", "bold").append(
            f" dead {status.dead} of {moment.damaged} damaged", style=DIM
        ),
        _pair("commits", f"{commits.count:,}").append(f"  last {ms(commits.last_ms)}", style=DIM),
        _pair("", f"{status.guarantee or '–'}  state {size(commits.checkpoint_bytes)}", DIM),
    )
    return grid


def _pair(label: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{label} " if label else "", DIM), (value, style))


# -- windows


def _machine(moment: Moment) -> RenderableType:
    return _panel(Fit(lambda width, height: _machine_lines(moment.shown, width, height)), "This machine", "1 s windows")


def _machine_lines(shown: Shown, width: int, height: int) -> list[Text]:
    lines: list[Text] = []
    cores = sorted(shown.cores)
    if len(cores) <= max(2, height - 6):
        lines += [_core(core, shown.cores[core], width) for core in cores]
    else:
        lines += _many_cores([shown.cores[core]["mean"] for core in cores], width)
    if machine := shown.machine:
        memory = Text("memory ", style=DIM).append_text(bar(machine["memory"], max(6, width - 21)))
        lines.append(memory.append(f" {machine['memory']:3.0f} %", style="bold").append(f"{size(machine['used']):>8}"))
        lines.append(_rates("disk", "r", machine["disk_read"], "w", machine["disk_write"]))
        lines.append(_rates("net", "in", machine["net_in"], "out", machine["net_out"]))
    for process in shown.processes[: max(0, height - len(lines))]:
        wide = width >= 40
        room = width - (25 if wide else 17)
        line = Text(f"{process['name'][:room]:<{room}}", style=ACCENT)
        line.append(f" {process['pid']:>8}", style=DIM).append(f" {process['cpu']:4.0f} %", style="default")
        lines.append(line.append(f" {size(process['memory']):>7}", style=DIM) if wide else line)
    return lines


def _core(core: int, row: dict[str, float], width: int) -> Text:
    line = Text(f"core {core:<2}", style=DIM).append_text(bar(row["mean"], max(6, width - 21)))
    return line.append(f" {row['mean']:3.0f} %", style=f"bold {level(row['mean'])}").append(
        f" max{row['max']:4.0f}", DIM
    )


def _many_cores(means: list[float], width: int) -> list[Text]:
    """The average as a bar, and one block per core, as many as fit on two lines."""
    average = sum(means) / len(means)
    total = Text("cpu    ", style=DIM).append_text(bar(average, max(6, width - 21)))
    total.append(f" {average:3.0f} %", style=f"bold {level(average)}").append(f" × {len(means)}", DIM)
    lines = [total]
    for start in range(0, min(len(means), 2 * width), width):
        line = Text()
        for mean in means[start : start + width]:
            line.append("▁▂▃▄▅▆▇█"[min(7, int(mean / 12.6))], style=level(mean))
        lines.append(line)
    return lines


def _rates(what: str, first: str, a: float, second: str, b: float) -> Text:
    text = Text(f"{what:<6} ", style=DIM).append(f"{first} ", DIM).append(f"{size(a):>6}/s", "default")
    return text.append(f" {second} ", DIM).append(f"{size(b):>6}/s", "default")


def _table(*columns: str) -> Table:
    table = Table(box=None, expand=True, padding=(0, 0, 0, 1), pad_edge=False, header_style=DIM)
    table.add_column(columns[0], no_wrap=True, overflow="ellipsis", ratio=1)
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _routes(moment: Moment) -> RenderableType:
    end = moment.shown.routes_end
    subtitle = "10 s windows" + (f" to {clock(end)}" if end else "")
    return _panel(Fit(lambda width, height: _route_table(moment.shown, height)), "Requests", subtitle)


def _route_table(shown: Shown, height: int) -> list[Table]:
    table = _table("route", "/s", "p50", "p95", "p99", "5xx")
    for row in shown.routes[: height - 1]:
        errors = 100 * row["errors"] / max(1, row["n"])
        table.add_row(
            Text(str(row["route"]), style=ACCENT),
            f"{row['n'] / 10:.0f}",
            f"{row['p50']:.0f}",
            f"{row['p95']:.0f}",
            Text(f"{row['p99']:.0f} ms", style=WARN if row["p99"] > 600 else "default"),
            Text(f"{errors:.1f}%", style=WARN if errors > 2 else DIM),
        )
    return [table] if shown.routes else []


def _payments(moment: Moment) -> RenderableType:
    return _panel(Fit(lambda width, height: _payment_table(moment.shown, height)), "Payments", "5 s windows")


def _payment_table(shown: Shown, height: int) -> list[Table]:
    table = _table("country", "n", "sum", "p95")
    for row in shown.payments[: height - 1]:
        country = Text(str(row["country"]), style=ACCENT)
        table.add_row(country, str(row["n"]), f"{row['total']:,.0f}", f"{row['p95']:,.0f}")
    return [table] if shown.payments else []


# -- patterns and alerts


def _hidden(moment: Moment) -> RenderableType:
    summary = moment.summary
    style = GOOD if summary.clean else BAD
    title = f"Hidden: [{style}]{summary}[/]"
    subtitle = f"{summary.look_alikes} look-alikes rightly ignored"
    return _panel(Fit(lambda width, height: _hidden_lines(moment, width, height)), title, subtitle)


def _hidden_lines(moment: Moment, width: int, height: int) -> list[Text]:
    # What comes next stays in sight, and as much of the past as there is room for.
    coming = [v for v in moment.verdicts if v.state is State.COMING][:2]
    past = [v for v in moment.verdicts if v.state is not State.COMING]
    room = max(1, height - 1 - len(coming))
    return [*(_verdict(each, moment, width) for each in [*past[-room:], *coming]), _burst(moment)]


def _verdict(verdict: Verdict, moment: Moment, width: int) -> Text:
    sign, style = _STATES[verdict.state]
    scenario = verdict.scenario
    seconds = (scenario.first_tick - moment.first_tick) / 10
    line = Text.assemble((f"{sign} ", style), (f"{span(seconds)} ", DIM))
    line.append(f"{_SHORT.get(scenario.kind, scenario.kind):<14}", style="bold" if scenario.kind.attack else DIM)
    line.append(f"{scenario.key:<13}", style=DIM)
    state = f"in {ms(verdict.delay)}" if verdict.state is State.FOUND else str(verdict.state)
    line.append(f"{state:<12}", style=style)
    if width > 60:
        line.append(scenario.note, style=DIM)
    return line


def _burst(moment: Moment) -> Text:
    found = "found" in moment.burst
    style = GOOD if found else BAD if "MISSED" in moment.burst else DIM
    text = Text.assemble(("✓ " if found else "▸ ", style), (f"CPU > {moment.threshold:.0f} %, by this demo: ", DIM))
    return text.append(moment.burst, style=style)


_SHORT = {
    Kind.TYPO: "forgetful",
    Kind.AT_HOME: "big, at home",
    Kind.BLOCKED: "blocked scan",
    Kind.SLOW: "slow failures",
}


def _feed(moment: Moment) -> RenderableType:
    shown = moment.shown
    title = f"Matches {shown.matches} · alerts {shown.alerts}"
    return _panel(Fit(lambda width, height: _note_lines(shown, width, height)), title, f"{shown.suppressed} suppressed")


def _note_lines(shown: Shown, width: int, height: int) -> list[Text]:
    lines = []
    for note in reversed(shown.notes[-height:]):
        style = SEVERITIES.get(note.severity, ACCENT)
        mark = f"{note.severity:<8.8} " if width >= 60 else "● "
        line = Text.assemble((f"{clock(note.at)} ", DIM), (mark, style), (f"{note.label} ", "bold"))
        lines.append(line.append(note.text))
    return lines
