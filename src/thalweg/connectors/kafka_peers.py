"""The workers of a job as its consumer groups list them.

A worker that dies inside a transaction holds up whoever takes its partitions over: their committed offsets, and what
lies behind its records in the exchange, can't be read before the transaction has timed out (10 s) and the broker has
looked for such ones (every 10 s). Whoever saw it as a member, and finds it gone after a rebalance, need not wait: to
register its transactional ids ends what it had under way, and fences it off should it be alive after all.

Such a worker, paused for so long that its group gave it up, must not take the fence for another instance in its slot:
that one would be a member of the group, under its name.
"""

from __future__ import annotations

from collections.abc import Iterable

from thalweg.kafka.admin import KafkaAdmin
from thalweg.streams.connector import JobSettings


def group_name(job: JobSettings, topic: str) -> str:
    """The consumer group that reads a topic for a job."""
    return f"{job.name}-{topic}"


def instance_id(job: JobSettings, topic: str) -> str:
    """The static member of that group that a worker slot is."""
    return f"{job.name}-{job.slot}-{topic}"


class Peers:
    """Kept from one session of a worker to the next, as only who saw a worker can miss it.

    Args:
        admin: not closed by this.
    """

    def __init__(self, admin: KafkaAdmin, job: JobSettings) -> None:
        self._admin = admin
        self._job = job
        self._others: frozenset[int] = frozenset()
        self._own: dict[str, str] = {}

    def look(self, topics: Iterable[str], *, alone: bool) -> frozenset[int]:
        """The slots that were members when this was last called, and are not any more.

        Args:
            topics: the sources of the job.
            alone: whether this worker was dealt all partitions. Where it always was nothing is asked.

        Raises:
            ConnectorError: a group's coordinator does not answer.
        """
        self._own = {}
        if alone and not self._others:
            return frozenset()
        members = {topic: self._members(topic) for topic in topics}
        slot = self._job.slot
        self._own = {topic: found[slot] for topic, found in members.items() if slot in found}
        gone, self._others = self._others, frozenset().union(*members.values()) - {slot}
        return gone - self._others

    def replaced(self) -> bool:
        """Whether another instance has joined in this worker's slot since `look`; taken for granted where that did not
        find this worker in any group, or had no need to ask.

        Raises:
            ConnectorError: a group's coordinator does not answer.
        """
        slot = self._job.slot
        return not self._own or any(self._members(topic).get(slot, own) != own for topic, own in self._own.items())

    def _members(self, topic: str) -> dict[int, str]:
        """Per slot its member id."""
        found: dict[int, str] = {}
        for member in self._admin.describe_group(group_name(self._job, topic)).members:
            slot = (member.instance_id or "").removeprefix(f"{self._job.name}-").removesuffix(f"-{topic}")
            if slot.isdecimal():
                found[int(slot)] = member.member_id
        return found
