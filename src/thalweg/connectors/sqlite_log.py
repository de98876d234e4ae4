"""The embedded log, the default broker: `sqlite:///data.db`. See docs/embedded-log.md."""

from thalweg.connectors.sqlite.broker import SqliteBroker
from thalweg.connectors.sqlite.log import EmbeddedLog

__all__ = ["EmbeddedLog", "SqliteBroker"]
