"""Patterns in YAML files.

patterns:
  - id: brute-force
    name: Brute force login
    pattern: |
      PATTERN (failed->{3})
      WITHIN 1m
      DEFINE failed AS type == "login" && !success
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from thalweg.cep.pattern import Pattern
from thalweg.cep.text.parse import parse_pattern
from thalweg.errors import ConfigurationError
from thalweg.yaml_text import parse_yaml


class _Pattern(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    pattern: str
    name: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    patterns: list[_Pattern]


def load_patterns(path: str | Path) -> list[Pattern]:
    """The patterns of a YAML file.

    Raises:
        ConfigurationError: the file can't be read, or what is wrong with which pattern.
        MissingExtraError: PyYAML or Lark is not installed (`pip install 'thalweg[rules]'`).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"patterns {path}: {error}") from error
    return parse_patterns(text, str(path))


def parse_patterns(text: str, where: str = "patterns") -> list[Pattern]:
    """The patterns of a YAML text, which is an object with a list `patterns`."""
    try:
        read = msgspec.convert(parse_yaml(text, where, what="patterns", extra="rules"), _File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    ids = [pattern.id for pattern in read.patterns]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{where}: pattern {twice[0]!r} comes twice")
    return [_parsed(pattern, where) for pattern in read.patterns]


def _parsed(pattern: _Pattern, where: str) -> Pattern:
    try:
        return parse_pattern(pattern.id, pattern.pattern, pattern.name)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: pattern {pattern.id!r}: {error}") from error
