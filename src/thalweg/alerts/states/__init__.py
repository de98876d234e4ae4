"""Rules that watch a state over time, per fingerprint."""

from thalweg.alerts.states.tracker import Change, ChangeKind, StateTracker

__all__ = ["Change", "ChangeKind", "StateTracker"]
