"""Patterns as text, close to SQL's MATCH_RECOGNIZE, and in YAML files."""

from thalweg.cep.text.files import load_patterns, parse_patterns
from thalweg.cep.text.parse import parse_pattern
from thalweg.cep.text.render import pattern_text

__all__ = ["load_patterns", "parse_pattern", "parse_patterns", "pattern_text"]
