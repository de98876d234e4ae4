"""States that rules watch: events as runs, and what becomes of them."""

from thalweg.alerts.states.index import Followed
from thalweg.alerts.states.tracker import Change, ChangeKind, StateTracker

__all__ = ["Change", "ChangeKind", "Followed", "StateTracker"]
