"""What the runners raise for a case whose feature does not exist yet."""

from __future__ import annotations


class NotServed(Exception):
    """The case needs a feature that is not built yet; the message names it."""
