"""Logs: structured lines that never stall the daemon, never end it, and never tell a secret.

setup    structlog and stdlib logging, one line an event
redact   fields that are hidden by their name
writer   lines to a descriptor that may be full or gone
"""

from .redact import REDACTED
from .setup import Level, configure, get_logger, set_level
from .writer import LineWriter

__all__ = ["REDACTED", "Level", "LineWriter", "configure", "get_logger", "set_level"]
