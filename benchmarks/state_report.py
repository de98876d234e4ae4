"""What `state.py` has measured, as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.spine.report import table

_SIZES = ("1,000", "10,000", "100,000", "1,000,000")


def markdown(results: dict[str, Any]) -> str:
    """All parts that were measured, each with what it is to be held against."""
    machine = results["machine"]
    parts = [
        "# State\n",
        f"Measured {results['when']} with {results['keys']:,} keys on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['os']}, Python {machine['python']}. Times per event are CPU time of "
        "all threads, the snapshot for the batch's commit included.\n",
    ]
    for name, section in _SECTIONS.items():
        if name in results:
            parts += section(results[name])
            if when := results.get("earlier", {}).get(name):
                parts.append(f"(Of an earlier run, {when}.)\n")
    return "\n".join(parts)


def _events(found: dict[str, Any]) -> list[str]:
    parts = ["## Cost per event as the number of keys held grows\n"]
    titles = {
        "touched": "Each batch touches 1,000 of the keys; ns per event. Budget: ratio at most 1.5.",
        "uniform": "Each event has one of all keys: a batch reads and writes as many keys as it has events.",
    }
    for which, title in titles.items():
        rows = []
        for name, figures in found.items():
            costs = [float(cost) for cost in figures[which].values()]
            cells = [f"{cost:,.0f}" for cost in costs] + ["–"] * (len(_SIZES) - len(costs))
            rows.append([name, *cells, f"{costs[-1] / costs[0]:.2f}", f"{figures['rows_per_batch']:,}"])
        parts += [title + "\n", table(["step", *_SIZES, "ratio", "rows a batch"], rows)]
    return parts


def _checkpoint(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            _mib(one["full_bytes"]),
            _mib(one["delta_bytes"]),
            f"{one['delta_bytes'] / one['changed_state_bytes']:.2f}",
            f"{100 * one['delta_bytes'] / one['full_bytes']:.2f} %",
        ]
        for name, one in found.items()
    ]
    head = ["step", "all state", "a commit's delta", "delta / changed state", "delta / all state"]
    budget = "MiB. Budget: at most twice the changed state.\n"
    return ["## Commits with one key in a hundred changed\n", budget, table(head, rows)]


def _recovery(found: dict[str, Any]) -> list[str]:
    rows = [
        [name, _mib(one["snapshot_bytes"]), f"{one['restore_seconds']:.2f}", f"{one['to_first_batch_seconds']:.2f}"]
        for name, one in found.items()
    ]
    return ["## Restart from a snapshot\n", table(["step", "snapshot MiB", "restored, s", "first batch done, s"], rows)]


def _memory(found: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{one['rows']:,}", f"{one['bytes_per_key']:,.0f}", _mib(one["bytes"])]
        for name, one in found["held"].items()
    ]
    open_rows = [
        [name, f"{one['rows']:,}", _mib(one["bytes"]), _mib(one["resident_growth"])]
        for name, one in found["three_open_windows"].items()
    ]
    return [
        "## Memory\n",
        table(["step", "rows", "bytes a key", "MiB"], rows),
        "Three open windows of every key, each filled in a process of its own that has taken batches of as many rows "
        "of a thousand keys before. Budget: below 1,024 MiB.\n",
        table(["step", "rows", "MiB as accounted", "MiB that the process grew by"], open_rows),
    ]


def _backends(found: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{one['ns_per_event']:,.0f}", _mib(one["spilled_bytes"]), _mib(one["loaded_bytes"])]
        for name, one in found.items()
    ]
    return [
        "## Backends, a sixteenth of the state in memory\n",
        "`process_batches`, 1,000 of the keys touched by each batch.\n",
        table(["backend", "ns per event", "spilled MiB", "loaded MiB"], rows),
    ]


def _latency(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            run["backend"],
            run["guarantee"],
            f"{run['rate']:,}",
            f"{run['results']:,}",
            *(f"{run[p]:.1f}" for p in ("p50", "p95", "p99", "p999", "max")),
        ]
        for run in found
    ]
    return [
        "## Latency of the sensor job on each backend\n",
        "Kafka → 1 s window mean → Kafka, open loop; milliseconds from the intended send time of the event that closes "
        "the window to the receipt of its result. All but the first backend may keep 64 KB of state in memory.\n",
        table(["backend", "guarantee", "events/s", "results", "p50", "p95", "p99", "p99.9", "max"], rows),
    ]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f}"


_SECTIONS = {
    "events": _events,
    "checkpoint": _checkpoint,
    "recovery": _recovery,
    "memory": _memory,
    "backends": _backends,
    "latency": _latency,
}
