"""Titles and texts of alerts: Jinja templates in its sandbox, over untrusted values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from thalweg.errors import ConfigurationError, MissingExtraError

LONGEST = 4_000
"""Characters of a rendered text; the rest is cut."""


class Template:
    """One template, checked when it is made. Rendering never fails: a value that is missing shows as `<name?>`.

    Raises:
        ConfigurationError: it can't be parsed; it says where.
        MissingExtraError: Jinja is not installed (`pip install 'thalweg[alerts]'`).

    >>> Template("{{ event.host }} is at {{ event.cpu }} %", "title").render({"event": {"host": "a", "cpu": 97}})
    'a is at 97 %'
    """

    def __init__(self, source: str, where: str) -> None:
        self._where = where
        self._template = _compiled(source, where)

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for these values."""
        try:
            text: str = self._template.render(values)
        except Exception as error:  # whatever a template does with hostile values must not lose the alert
            text = f"({self._where} can't be shown: {type(error).__name__}: {error})"
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@lru_cache(maxsize=4096)
def _compiled(source: str, where: str) -> Any:
    try:
        from jinja2 import TemplateError, Undefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtraError(f"{where} is a template, which needs Jinja: pip install 'thalweg[alerts]'") from error

    class Shown(Undefined):
        """A value that is not there, as people should see it."""

        def __str__(self) -> str:
            return f"<{self._undefined_name}?>"

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Shown(name=f"{self._undefined_name}.{name}")

    class Environment(ImmutableSandboxedEnvironment):
        """No loops over huge ranges, no attributes of Python's own, nothing changes its values."""

    environment = Environment(undefined=Shown, autoescape=False)
    environment.globals.clear()  # no `range`, `lipsum` and their like
    try:
        return environment.from_string(source)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ConfigurationError(f"{where}: {error}" + (f" (line {line})" if line else "")) from error
