"""Conditions as text: a safe subset of CEL, compiled to expressions over columns."""

from thalweg.cep.conditions.condition import Condition, ConditionError

__all__ = ["Condition", "ConditionError"]
