"""Makes what an attempt of a job runs: its outputs, its operators, their watermarks."""

from __future__ import annotations

import threading

from thalweg.streams.connector import Broker, Committer, Recovered
from thalweg.streams.engine.dataflow import Dataflow
from thalweg.streams.engine.exchange.by_record import PlacedDataflow
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.engine.exchange.traffic import sender
from thalweg.streams.engine.job_outputs import JobOutputs
from thalweg.streams.engine.lower import lower
from thalweg.streams.engine.opening import Opened
from thalweg.streams.engine.settings import SessionSettings
from thalweg.streams.plan.graph import Plan
from thalweg.streams.watermarks import PartitionWatermarks


def make_outputs(broker: Broker, committer: Committer, settings: SessionSettings) -> JobOutputs:
    """Where the rows go that leave the plan."""
    from thalweg.formats import open_format

    return JobOutputs(
        committer,
        settings.job.guarantee,
        ensure_topic=broker.ensure_topic,
        raw_encoder=open_format("raw").encoder(),
        fallback_topic=settings.job.name,
        late_to_dead_letters=settings.late_to_dead_letters,
    )


def make_dataflow(
    plan: Plan, outputs: JobOutputs, opened: Opened, settings: SessionSettings, wake: threading.Event
) -> Dataflow | ScaledDataflow:
    """The operators: all in one dataflow, or this worker's share behind an exchange."""
    name, groups = settings.job.name, settings.key_groups
    options = {"wake": wake}
    if opened.shape is not None and opened.placed is not None:
        made = {"job_name": name, "key_groups": groups, "options": options}
        return PlacedDataflow(plan, outputs, opened.shape, opened.placed, **made)
    if opened.shape is None or opened.exchange is None:
        return lower(plan, outputs, job_name=name, key_groups=groups, options=options)
    send = sender(opened.exchange, outputs)
    return ScaledDataflow(plan, outputs, opened.shape, send, job_name=name, key_groups=groups, options=options)


def set_watermarks(
    plan: Plan, dataflow: Dataflow | ScaledDataflow, opened: Opened, recovered: Recovered, now: int
) -> None:
    """Has the sources go on from the timestamps that were committed."""
    for node in plan.sources:
        watermarks = PartitionWatermarks(
            opened.owned[node.topic],
            node.watermark.max_out_of_orderness,
            idle_timeout=node.idle_timeout,
            close_idle_after=node.close_idle_after,
            clock=now,
        )
        watermarks.restore({p: e.max_timestamp for (t, p), e in recovered.epochs.items() if t == node.topic})
        dataflow.source(node.topic).watermarks = watermarks
