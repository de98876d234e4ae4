"""`DeadLetterQueue`: look at what could not be processed, mend it, and send it round again, once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.kafka.dead_letter.letters import DEAD_SUFFIX, REPLAY_OF, STATE_SUFFIX, DeadLetter, letter_of
from thalweg.kafka.dead_letter.state import LetterState
from thalweg.kafka.dead_letter.store import KafkaLetters, LetterStore, Outgoing, rows_of

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

_SUMMARY = {"error_class": pl.String, "state": pl.String, "letters": pl.Int64, "newest": pl.Int64}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did. `skipped` says for each letter that was not replayed why."""

    letters: tuple[str, ...]
    skipped: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.letters)


class DeadLetterQueue:
    """The dead letters of one topic, which lie in `<topic>.dlq`.

    What was done with a letter is kept beside it, in `<topic>.dlq-state`; a replay writes the record and that it was
    replayed in one transaction, so that neither a crash nor a second call sends it twice.

    Args:
        brokers: `host:port` or several of them; or a `LetterStore` (an embedded log's).
        topic: the topic that the letters are of.
        security, settings: as for `KafkaProducer`.

    >>> queue = DeadLetterQueue("localhost:9092", "orders")                              # doctest: +SKIP
    >>> queue.replay(error_class="TimeoutError")                                          # doctest: +SKIP
    """

    def __init__(
        self,
        brokers: str | Sequence[str] | LetterStore,
        topic: str,
        *,
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.topic = topic.removesuffix(DEAD_SUFFIX)
        if isinstance(brokers, str | Sequence):
            self._store: LetterStore = KafkaLetters(brokers, security=security, settings=settings)
        else:
            self._store = brokers

    # -- looking

    def letters(self, *, error_class: str | None = None, state: str | None = None) -> list[DeadLetter]:
        """All letters, oldest first, as they are now (edits applied).

        Args:
            error_class: only these.
            state: only "open", "edited", "replayed" or "discarded" ones.

        Raises:
            ConnectorError: the topic has no dead letters, or can't be read.
        """
        found = self._letters(self._store.states(self.topic))
        return [
            letter for letter in found if error_class in (None, letter.error_class) and state in (None, letter.state)
        ]

    def letter(self, place: str) -> DeadLetter:
        """One letter by its place, "partition:offset".

        Raises:
            ConfigurationError: there is none.
        """
        letters = {letter.id: letter for letter in self.letters()}
        self._check([place], letters)
        return letters[place]

    def summary(self) -> pl.DataFrame:
        """How many letters there are by error class and state, and the newest's time (ms UTC)."""
        rows = [(letter.error_class, letter.state, letter.timestamp) for letter in self.letters()]
        frame = pl.DataFrame(rows, {"error_class": pl.String, "state": pl.String, "at": pl.Int64}, orient="row")
        counted = frame.group_by("error_class", "state").agg(letters=pl.len().cast(pl.Int64), newest=pl.col("at").max())
        return counted.sort("letters", descending=True).select(_SUMMARY.keys())

    def _letters(self, states: Mapping[str, bytes | None]) -> list[DeadLetter]:
        made = []
        for place, row, headers in rows_of(self._store.letters(self.topic)):
            letter = letter_of(place, row["key"], row["value"], headers)
            made.append(_with_state(letter, states.get(place)))
        return made

    # -- mending

    def edit(self, place: str, payload: bytes | str | None) -> None:
        """Replaces a letter's payload for its replay; the letter itself stays as it was. None: a null payload.

        Raises:
            ConfigurationError: no such letter, or it is replayed or discarded already.
        """
        data = payload.encode() if isinstance(payload, str) else payload
        self._set((place,), LetterState("edited", data, True, _now()))

    def discard(self, *places: str) -> None:
        """Marks letters as ones that will never be replayed: all of them, or (on an error) none.

        Raises:
            ConfigurationError: as `edit`.
        """
        self._set(places, LetterState("discarded", at=_now()))

    def _set(self, places: Sequence[str], state: LetterState) -> None:
        def change(states: Mapping[str, bytes | None]) -> list[Outgoing]:
            letters = {letter.id: letter for letter in self._letters(states)}
            self._check(places, letters)
            for place in places:
                if letters[place].state in ("replayed", "discarded"):
                    raise ConfigurationError(
                        f"dead letter {place!r} of {self.topic!r} is {letters[place].state} already"
                    )
            return [self._state(place, state) for place in places]

        self._store.change(self.topic, change)

    def _check(self, places: Sequence[str], letters: Mapping[str, DeadLetter]) -> None:
        unknown = [place for place in places if place not in letters]
        if unknown:
            some = list(letters)
            there = f"there are {len(some)}, {some[0]} to {some[-1]}" if some else "there are none"
            raise ConfigurationError(
                f"there is no dead letter {', '.join(map(repr, unknown))} of {self.topic!r}; {there}"
            )

    # -- replaying

    def replay(
        self,
        places: Iterable[str] | None = None,
        *,
        error_class: str | None = None,
        limit: int | None = None,
        to: str | None = None,
        dry_run: bool = False,
    ) -> Replayed:
        """Sends letters to the topic that they came from, with their key, time and own headers, each at most once ever.

        Args:
            places: which letters; None: all that are open or edited.
            error_class: only these of them.
            limit: at most so many, the oldest first.
            to: another topic.
            dry_run: say what would be done, and do nothing.

        Raises:
            ConfigurationError: a place without a letter.
            FencedError: another program replays these letters at this moment.
        """
        wanted = None if places is None else list(dict.fromkeys(places))
        result = Replayed((), {})

        def change(states: Mapping[str, bytes | None]) -> list[Outgoing]:
            nonlocal result
            chosen, skipped = self._choose(states, wanted, error_class, limit)
            result = Replayed(tuple(letter.id for letter in chosen), skipped)
            return [record for letter in chosen for record in self._outgoing(letter, to)]

        if dry_run:
            change(self._store.states(self.topic))
        else:
            self._store.change(self.topic, change)
        return result

    def _choose(
        self, states: Mapping[str, bytes | None], wanted: list[str] | None, error_class: str | None, limit: int | None
    ) -> tuple[list[DeadLetter], dict[str, str]]:
        letters = {letter.id: letter for letter in self._letters(states)}
        self._check(wanted or (), letters)
        chosen: list[DeadLetter] = []
        skipped: dict[str, str] = {}
        for letter in letters.values() if wanted is None else [letters[place] for place in wanted]:
            if error_class not in (None, letter.error_class) or (limit is not None and len(chosen) >= limit):
                continue
            reason = _why_not(letter)
            if reason is None:
                chosen.append(letter)
            elif wanted is not None or letter.state in ("open", "edited"):
                skipped[letter.id] = reason
        return chosen, skipped

    def _outgoing(self, letter: DeadLetter, to: str | None) -> list[Outgoing]:
        topic = to or letter.topic or self.topic
        headers = {**letter.headers, REPLAY_OF: f"{self.topic}{DEAD_SUFFIX}:{letter.id}".encode()}
        record = Outgoing(topic, letter.key, letter.payload, headers, letter.timestamp)
        payload = letter.payload if letter.state == "edited" else None
        state = LetterState("replayed", payload, letter.state == "edited", _now(), topic)
        return [record, self._state(letter.id, state)]

    def _state(self, place: str, state: LetterState) -> Outgoing:
        return Outgoing(self.topic + STATE_SUFFIX, place.encode(), state.to_bytes(), {})

    # -- life

    def close(self) -> None:
        """Closes the connections."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _with_state(letter: DeadLetter, data: bytes | None) -> DeadLetter:
    if data is None:
        return letter
    state = LetterState.of(data)
    if state.edited:
        size = None if state.payload is None else len(state.payload)
        letter = replace(letter, payload=state.payload, payload_size=size)
    return replace(letter, state=state.status)


def _why_not(letter: DeadLetter) -> str | None:
    if letter.state in ("replayed", "discarded"):
        return f"it is {letter.state} already"
    if letter.is_cut:
        kept = len(letter.payload or b"")
        return f"only {kept} of its {letter.payload_size} bytes were kept; edit it to send something else"
    return None


def _now() -> int:
    return time.time_ns() // 1_000_000
