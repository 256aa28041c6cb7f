"""Keys from the password manager gopass (https://github.com/gopasspw/gopass): `gopass show -o PATH`."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Final

from .errors import ConfigError

GOPASS_SHOW: Final = "gopass show"

PATIENCE = 10.0
"""Seconds: it may have to ask an agent for a passphrase, but nobody may be there to be asked."""

MAX_BYTES = 64 * 1024


def gopass_keys(path: str, environ: Mapping[str, str]) -> list[str]:
    """Return the keys under `path`, separated by commas or line ends. Blocks for `PATIENCE` seconds at most.

    Raises ConfigError if there is none, for whatever reason; it shows nothing of what gopass says, which may be a secret.
    """
    command = ["gopass", "show", "-o", path]
    env = {name: value for name, value in environ.items() if not name.startswith("CLINVK_")}
    try:
        with subprocess.Popen(  # noqa: S603 - the path is an argument of its own, and no option
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        ) as process:
            try:
                told, _ = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise ConfigError(GOPASS_SHOW, f"gave no answer within {PATIENCE:g} s") from None
    except FileNotFoundError:
        raise ConfigError(GOPASS_SHOW, "gopass is not installed, or not on the PATH") from None
    except OSError as error:
        raise ConfigError(GOPASS_SHOW, f"cannot be started: {error.strerror}") from None
    if process.returncode:
        raise ConfigError(GOPASS_SHOW, f"failed with status {process.returncode}; run it by hand to see why")
    keys = [key for key in re.split(r"[,\s]+", told[:MAX_BYTES].decode(errors="replace")) if key]
    if not keys:
        raise ConfigError(GOPASS_SHOW, "gave no key")
    return keys
