"""The result of `kafka_clients.py` as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.spine.report import table

JAVA = "kafka-producer-perf-test"


def markdown(result: dict[str, Any]) -> str:
    machine = result["machine"]
    parts = [
        "# Kafka clients\n",
        f"Measured {result['when']} on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['os']}, Python {machine['python']}, in {result['seconds']} s; medians of {_rounds(result)}. "
        "The broker shares the cores. Read ratios. `make bench-kafka` repeats it.\n",
    ]
    if cases := result.get("consume"):
        parts += ["## Consuming to Arrow\n", _consume(cases)]
    for transactional, keyed, title in (
        (False, False, "## Producing frames\n"),
        (False, True, "## Producing frames with keys\n"),
        (True, False, "## Producing frames in transactions (1 s)\n"),
    ):
        kind = {"transactional": transactional, "keyed": keyed}
        if cases := [case for case in result.get("produce", []) if kind.items() <= case.items()]:
            parts += [title, _produce(cases)]
    if shapes := result.get("avro"):
        parts += ["## Avro to columns\n", _avro(shapes)]
    return "\n".join(parts)


def _rounds(result: dict[str, Any]) -> str:
    counts = sorted({case["rounds"] for case in (*result.get("consume", ()), *result.get("produce", ()))})
    return f"{' or '.join(map(str, counts)) or 'no'} rounds"


def _consume(cases: list[dict[str, Any]]) -> str:
    head = [
        "payload, codec", "columns M/s", "CPU µs", "MiB", "poll_batch M/s", "confluent M/s", "CPU µs", "MiB",
        "columns is", "by CPU", "with our settings", "of librdkafka's own rate",
    ]  # fmt: skip
    rows = []
    for case in cases:
        by = case["consumers"]
        ours, peer = by["columns"], by["confluent"]
        rows.append(
            [
                f"{case['bytes']:,} B, {case['codec']}",
                *(_rate(ours), f"{ours['cpu_us']:.2f}", f"{ours['memory_mib']:.0f}", _rate(by["frames"])),
                *(_rate(peer), f"{peer['cpu_us']:.2f}", f"{peer['memory_mib']:.0f}"),
                f"{ours['rate'] / peer['rate']:.1f}×",
                f"{peer['cpu_us'] / ours['cpu_us']:.1f}×",
                f"{ours['rate'] / by['confluent_tuned']['rate']:.1f}×",
                f"{ours['rate'] / by['c_queue']['rate']:.0%}",
            ]
        )
    return table(head, rows)


def _produce(cases: list[dict[str, Any]]) -> str:
    head = [
        "payload, codec", "send_frame M/s", "CPU µs", "MiB", "perf-test M/s", "MiB", "produce_batch M/s", "CPU µs",
        "MiB", "over perf-test", "over produce_batch", "by CPU", "over it with its dicts ready",
    ]  # fmt: skip
    rows = []
    for case in cases:
        by = case["producers"]
        ours, java, peer = by["send_frame"], by.get(JAVA), by["produce_batch"]
        rows.append(
            [
                f"{case['bytes']:,} B, {case['codec']}",
                *(_rate(ours), f"{ours['cpu_us']:.2f}", f"{ours['memory_mib']:.0f}"),
                *(("-", "-") if java is None else (_rate(java), f"{java['memory_mib']:.0f}")),
                *(_rate(peer), f"{peer['cpu_us']:.2f}", f"{peer['memory_mib']:.0f}"),
                "-" if java is None else f"{ours['rate'] / java['rate']:.2f}×",
                f"{ours['rate'] / peer['rate']:.2f}×",
                f"{peer['cpu_us'] / ours['cpu_us']:.2f}×",
                f"{ours['rate'] / by['produce_batch_ready']['rate']:.2f}×",
            ]
        )
    return table(head, rows)


def _avro(shapes: list[dict[str, Any]]) -> str:
    numbers = [name for name in shapes[0] if name != "shape"]
    return table(
        ["shape", *numbers], [[shape["shape"], *(_plain(shape[name]) for name in numbers)] for shape in shapes]
    )


def _plain(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _rate(run: dict[str, float]) -> str:
    return f"{run['rate'] / 1e6:.2f}"
