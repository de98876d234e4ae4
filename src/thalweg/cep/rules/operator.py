"""`ApplyRules`: a rule engine inside a running job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from thalweg.cep.rules.engine import RuleEngine
from thalweg.cep.rules.evaluation import Evaluation
from thalweg.cep.rules.ruleset import warm_up
from thalweg.streams.batch import DEAD, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.operator import Operator


class ApplyRules(Operator):
    """Evaluates the rules over each batch, calls their actions, and puts out a row per firing.

    Actions are called before the epoch is committed: after a crash again (at least once). A condition that raises and
    an action that fails for good each make a dead letter of the event, which names the rule; the other rules go on.
    No state.
    """

    def __init__(self, operator_id: str, engine: RuleEngine, keys: Sequence[str], topics: Sequence[str] = ()) -> None:
        super().__init__(operator_id)
        self.engine = engine
        self.keys = list(keys)
        self.topics = topics

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        if not batch:
            return
        result = self.engine.run(batch.frame, self.keys)
        fired = set(result.rows.tolist())
        raised = {error.row for error in result.errors} - fired
        self.account.passed += len(fired)
        self.account.dead += len(raised)
        self.account.filtered += len(batch) - len(fired) - len(raised)
        if len(result):
            yield Batch(result.matches)
        errors = list(_errors(result))
        if errors:
            yield Batch(dead_letters(batch.frame, errors, self.id, self.topics), DEAD)

    def close(self) -> None:
        self.engine.close()


def _errors(result: Evaluation) -> Iterator[RowError]:
    for error in result.errors:
        row, name, message, details = row_error(error.row, error.error)
        yield row, name, message, {**details, "rule": error.rule}
    for failure in result.failures:
        row, name, message, details = row_error(failure.row, failure.error)
        facts = {**details, "rule": failure.owner, "attempts": failure.attempts}
        yield row, "ActionFailed", f"rule {failure.owner!r}: {name}: {message}", facts
