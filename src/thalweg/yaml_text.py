"""YAML that users write: read safely, with errors that say where."""

from __future__ import annotations

from typing import Any

from thalweg.errors import ConfigurationError, MissingExtraError


def parse_yaml(text: str, where: object, *, what: str, extra: str) -> Any:
    """The text as plain data.

    Args:
        where: the file, for the error.
        what: what is read, for the error of a missing library.
        extra: of Thalweg, which brings PyYAML.

    Raises:
        ConfigurationError: this is no YAML.
        MissingExtraError: PyYAML is not installed.

    >>> parse_yaml("rules: [a, b]", "rules.yaml", what="rules", extra="rules")
    {'rules': ['a', 'b']}
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(f"{what} in YAML need PyYAML: pip install 'thalweg[{extra}]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where}: {error}") from error
