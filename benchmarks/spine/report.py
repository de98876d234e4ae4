"""The result of a run as Markdown."""

from __future__ import annotations

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def markdown(result: dict[str, Any]) -> str:
    machine = result["machine"]
    runs = {run["engine"]: run for run in result["throughput"]}
    ours = runs.get("thalweg", {}).get("rate", 0)
    parts = [
        "# The sensor job\n",
        f"Measured {result['when']} on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['os']}, "
        f"Python {machine['python']}; broker, generator, reader and engine share it. Every engine's results were "
        "checked "
        "equal (1e-9) before its time counted. Ratios inside this run are what to read.\n",
        "## Throughput in steady state\n",
        table(
            ["engine", "events", "events/s", "CPU µs/event", "memory MiB", "Thalweg is"],
            [
                [
                    run["engine"],
                    f"{run['events']:,}",
                    f"{run['rate']:,.0f}" if not run["problem"] else run["problem"],
                    f"{run['cpu_us']:.2f}",
                    f"{run['memory_mib']:,.0f}",
                    f"{ours / run['rate']:.1f}×" if run["rate"] else "–",
                ]
                for run in runs.values()
            ],
        ),
        "CPU and memory are of the engine's processes, start-up included.\n",
    ]
    if loop := result.get("confluent_loop"):
        parts += [
            "## The plain `confluent_kafka` loop\n",
            table(["what", "events/s"], [[k, f"{v:,.0f}"] for k, v in loop.items()]),
        ]
    for name, title in (("consume", "Consume to columns"), ("json_decode", "JSON to columns")):
        if name in result:
            rows = [
                [key, f"{value:,.2f}" if isinstance(value, float) else str(value)] for key, value in flat(result[name])
            ]
            parts += [f"## {title}\n", table(["figure", "value"], rows)]
    if "latency" in result:
        parts += [
            "## Latency, open loop\n",
            "From the intended send time of the event that closes a window to the receipt of its result by a reader of "
            "its own "
            "(`read_committed`); milliseconds.\n",
            table(
                ["guarantee", "events/s", "results", "p50", "p95", "p99", "p99.9", "max"],
                [
                    [
                        run["guarantee"],
                        f"{run['rate']:,}",
                        f"{run['results']:,}",
                        *(f"{run[p]:.1f}" for p in ("p50", "p95", "p99", "p999", "max")),
                    ]
                    for run in result["latency"]
                ],
            ),
        ]
    return "\n".join(parts)


def flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested figures as dotted names."""
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        rows += flat(item, f"{prefix}{key}.") if isinstance(item, dict) else [(prefix + key, item)]
    return rows
