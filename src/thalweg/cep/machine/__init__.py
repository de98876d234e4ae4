"""State machines: one instance per key, moved by events and by time."""

from thalweg.cep.machine.definition import PREVIOUS, State, StateMachine, Transition
from thalweg.cep.machine.files import load_machines, parse_machines
from thalweg.cep.machine.instance import Instance
from thalweg.cep.machine.replay import Replay

__all__ = [
    "PREVIOUS",
    "Instance",
    "Replay",
    "State",
    "StateMachine",
    "Transition",
    "load_machines",
    "parse_machines",
]
