"""States that rules watch: begun, going on, over; exactly by event time."""

from thalweg.alerts.states.changes import Change, ChangeKind, Followed
from thalweg.alerts.states.tracker import StateTracker
from thalweg.alerts.states.warm_up import warm_up

__all__ = ["Change", "ChangeKind", "Followed", "StateTracker", "warm_up"]
