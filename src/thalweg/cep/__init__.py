"""Complex event processing: patterns over keyed events in time order."""

from thalweg.cep.builder import PatternBuilder
from thalweg.cep.correlate import EventCorrelator
from thalweg.cep.machine import State, StateMachine, Transition
from thalweg.cep.matcher import PatternMatcher
from thalweg.cep.node import PatternNode
from thalweg.cep.partial import PartialMatch
from thalweg.cep.pattern import AfterMatch, Contiguity, Pattern
from thalweg.cep.rules import Rule, RuleEngine

__all__ = [
    "AfterMatch",
    "Contiguity",
    "EventCorrelator",
    "PartialMatch",
    "Pattern",
    "PatternBuilder",
    "PatternMatcher",
    "PatternNode",
    "Rule",
    "RuleEngine",
    "State",
    "StateMachine",
    "Transition",
]
