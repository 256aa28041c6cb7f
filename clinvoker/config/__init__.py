"""The configuration: read once, checked whole, passed in as one frozen `Settings`.

settings   the structs: every key, its default and its bounds
builtin    the four backends that need no file
load       built-in defaults, file, environment, command line, in that order
document   the TOML file, from a path to nested tables
sources    the CLINVK_* variables and the command line's options
overlay    one source over another, every mistake named by its key
checks     the rules that span several keys
secret     a key that shows itself to nobody
errors     ConfigError: one line for the person who can mend it
"""

from .builtin import BUILTIN
from .checks import is_loopback
from .errors import ConfigError
from .load import defaults, load
from .secret import Secret
from .settings import (
    BackendSettings,
    LogSettings,
    ParallelSettings,
    ServerSettings,
    SessionSettings,
    Settings,
)
from .sources import Options

__all__ = [
    "BUILTIN",
    "BackendSettings",
    "ConfigError",
    "LogSettings",
    "Options",
    "ParallelSettings",
    "Secret",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "defaults",
    "is_loopback",
    "load",
]
