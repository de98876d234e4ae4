"""Rules: conditions with priorities and actions, evaluated as columns, all at once."""

from thalweg.cep.rules.decisions import DecisionTable
from thalweg.cep.rules.engine import RuleEngine
from thalweg.cep.rules.evaluation import Evaluation, RuleError
from thalweg.cep.rules.rule import Rule
from thalweg.cep.rules.stats import RuleStats

__all__ = ["DecisionTable", "Evaluation", "Rule", "RuleEngine", "RuleError", "RuleStats"]
