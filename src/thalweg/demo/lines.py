"""The demo as plain lines, for logs and terminals that can't redraw; and the beginning and the end of every run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from thalweg.demo.attacks import FAILURES, FRAUD_AMOUNT, Scenario
from thalweg.demo.draw import BAD, DIM, GOOD, clock, ms, size, span
from thalweg.demo.score import State
from thalweg.demo.screen import Moment


def opening(moment: Moment, seconds: float | None) -> Iterator[str]:
    """What will happen, and what is hidden in it: said before anything is found."""
    yield f"thalweg demo · log {moment.file} · seed {moment.seed}" + (
        " · goes on where it was" if moment.resumed else ""
    )
    yield "Input: this machine's vitals, 10 samples a second, and seeded logins, payments and web requests."
    yield "It watches for:"
    yield f"  brute force    {FAILURES} failed logins of one user within 1 minute (pattern)"
    yield "  SQL injection  a request with UNION SELECT, then status 200, one address, within 30 s (pattern)"
    yield f"  payment fraud  a payment over {FRAUD_AMOUNT:,} outside the home country (alert rule)"
    yield f"  CPU            a core above {moment.threshold:.0f} % over 1 s (alert rule); the demo makes {moment.burst}"
    until = 60.0 if seconds is None else seconds
    yield f"Hidden in the first {until:.0f} s (time from now, who, what):"
    for verdict in moment.verdicts:
        if (at := _seconds(verdict.scenario, moment)) <= until:
            yield f"  {span(at)}  {_told(verdict.scenario)}"


def _seconds(scenario: Scenario, moment: Moment) -> float:
    return (scenario.first_tick - moment.first_tick) / 10


def _told(scenario: Scenario) -> str:
    what = "ATTACK    " if scenario.kind.attack else "look-alike"
    return f"{what}  {scenario.kind.value:<22} {scenario.key:<14} {scenario.note}"


def status_line(moment: Moment) -> str:
    """One line for now."""
    latency = moment.status.latency
    behind = "–" if moment.watermark is None else ms(max(0, moment.now - moment.watermark))
    return (
        f"[{span(moment.elapsed)}] {moment.rate:,.0f} events/s · {moment.status.received:,} events · "
        f"watermark {behind} behind · lag {moment.lag} · latency p50 {ms(latency.p50)} p99 {ms(latency.p99)} · "
        f"{moment.shown.windows} window results · {moment.shown.matches} matches · {moment.shown.alerts} alerts"
    )


def window_line(moment: Moment) -> str | None:
    """The newest window results, short."""
    shown = moment.shown
    parts = [f"core {core} {row['mean']:.0f} %" for core, row in sorted(shown.cores.items())[:4]]
    parts += [f"{row['route']} {row['n'] / 10:.0f}/s p95 {row['p95']:.0f} ms" for row in shown.routes[:2]]
    parts += [f"{row['country']} {row['n']} payments, {row['total']:,.0f}" for row in shown.payments[:1]]
    return "        " + " · ".join(parts) if parts else None


def closing(moment: Moment) -> Iterator[Text]:
    """What was found, what was missed, and the figures."""
    status, summary, shown = moment.status, moment.summary, moment.shown
    yield Text(f"\nthalweg demo: {span(moment.elapsed)}, {status.received:,} events", style="bold")
    for verdict in moment.verdicts:
        if verdict.state is State.COMING:
            continue
        style = {State.FOUND: GOOD, State.MISSED: BAD, State.FALSE: BAD}.get(verdict.state, DIM)
        state = f"found in {ms(verdict.delay)}" if verdict.state is State.FOUND else str(verdict.state)
        scenario = verdict.scenario
        line = Text(f"  {span(_seconds(scenario, moment))}  ").append(f"{state:<18}", style=style)
        line.append(f"{scenario.kind.value:<22} {scenario.key:<14} ", style="" if scenario.kind.attack else DIM)
        yield line.append(scenario.note, style=DIM)
    for other in summary.others:
        yield Text(f"  FALSE ALARM  {other}", style=BAD)
    yield (
        Text("attacks          ")
        .append(str(summary), style=f"bold {GOOD if summary.clean else BAD}")
        .append(
            f"; {summary.look_alikes} look-alikes rightly ignored"
            + (f"; {summary.under_way} still under way" if summary.under_way else ""),
            style=DIM,
        )
    )
    yield Text(
        f"CPU              {moment.burst}; {len(shown.cpu_alerts)} windows above {moment.threshold:.0f} % in all"
    )
    yield Text(
        f"results          {shown.windows:,} window results, {shown.matches} matches, {shown.alerts} alerts "
        f"({shown.suppressed} suppressed)"
    )
    yield Text(
        f"latency          p50 {ms(status.latency.p50)}, p95 {ms(status.latency.p95)}, p99 {ms(status.latency.p99)}: "
        "from the source's read to the commit"
    )
    yield Text(
        f"commits          {status.commits.count:,}, exactly-once; longest {ms(status.commits.longest_ms)}; "
        f"{status.restarts} restarts"
    )
    yield Text(f"dead letters     {status.dead} of {moment.damaged} damaged records; {status.late} late events")
    yield Text(
        f"log              {moment.file}, {size(moment.file_bytes)}; the next start goes on from here", style=DIM
    )


def note_line(at: int, severity: str, label: str, text: str) -> str:
    """A match or an alert."""
    return f"{clock(at)} {severity.upper():<8} {label}: {text}"
