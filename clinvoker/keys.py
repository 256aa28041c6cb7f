"""`clinvoker keys add|list|revoke`: callers' keys, of which only the hashes are kept, in `keys.toml`."""

import argparse
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from clinvoker.config import ConfigError, changing, check_keys, config_path, key_file, read_keys

PREFIX = "clk_"
"""Tells whoever finds a key what it is."""

BITS = 256

TAKEN_UP = "a running daemon takes this up when it gets SIGHUP"


def add_arguments(keys: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    verbs = keys.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", help="make a key and show it, once")
    add.add_argument("name", help="what the key is called: in the configuration, in the log")
    add.add_argument("--backend", action="append", metavar="NAME", help="a backend it may use (default: all)")
    add.add_argument(
        "--workdir", action="append", metavar="DIR", help="a directory it may work in (default: all)"
    )
    add.add_argument("--rate", type=float, metavar="N", help="requests a second")
    add.add_argument("--burst", type=int, metavar="N", help="requests at once")
    add.add_argument("--max-concurrent", type=int, metavar="N", help="runs at once")
    add.add_argument("--daily-tokens", type=int, metavar="N", help="tokens a day (UTC)")
    add.add_argument("--expires", metavar="WHEN", help="a date (2027-01-31), a date with a time, or 30d")
    listed = verbs.add_parser("list", help="show what keys there are")
    revoke = verbs.add_parser("revoke", help="take a key away")
    revoke.add_argument("name")
    for verb in (add, listed, revoke):
        verb.add_argument("--config", metavar="FILE", help="the configuration file; keys.toml is beside it")


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line says. Raises ConfigError."""
    config = config_path(arguments.config, os.environ)
    match arguments.verb:
        case "add":
            key = add_key(config, arguments.name, _wishes(arguments))
            _tell(f"key {arguments.name} is in {key_file(config)}; it is shown this once, and {TAKEN_UP}")
            sys.stdout.write(f"{key}\n")
        case "revoke":
            revoke_key(config, arguments.name)
            _tell(f"key {arguments.name} is revoked; {TAKEN_UP}, and runs that it began go on")
        case _:
            for line in list_keys(config):
                sys.stdout.write(f"{line}\n")


def add_key(config: Path, name: str, wishes: Mapping[str, Any]) -> str:
    """Make a key with this name and return it. Raises ConfigError."""
    key = f"{PREFIX}{secrets.token_urlsafe(BITS // 8)}"
    with changing(key_file(config)) as document:
        tables = cast("dict[str, Any]", document.setdefault("keys", {}))
        if name in tables:
            raise ConfigError(str(key_file(config)), f"keys.{name}: there is such a key already")
        tables[name] = {"hash": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}", **wishes}
        check_keys(config, document)
    return key


def revoke_key(config: Path, name: str) -> None:
    """Take a key out of the file. Raises ConfigError if it is not there."""
    with changing(key_file(config)) as document:
        if document.get("keys", {}).pop(name, None) is None:
            raise ConfigError(str(key_file(config)), f"keys.{name}: there is no such key")


def list_keys(config: Path) -> list[str]:
    """One line for each key in the file: its name, and what it may. Raises ConfigError."""
    document = read_keys(key_file(config)) or {}
    check_keys(config, document)
    tables = cast("dict[str, dict[str, Any]]", document.get("keys", {}))
    return [
        " ".join([name, *(f"{what}={_shown(value)}" for what, value in table.items() if what != "hash")])
        for name, table in sorted(tables.items())
    ]


def _wishes(arguments: argparse.Namespace) -> dict[str, Any]:
    told = {
        "backends": arguments.backend,
        "workdirs": arguments.workdir,
        "rate": arguments.rate,
        "burst": arguments.burst,
        "max_concurrent": arguments.max_concurrent,
        "daily_tokens": arguments.daily_tokens,
        "expires": _moment(arguments.expires) if arguments.expires else None,
    }
    return {what: value for what, value in told.items() if value is not None}


def _moment(text: str) -> str:
    """A number of days from now (`30d`) as a moment; anything else as it is."""
    if found := re.fullmatch(r"([0-9]{1,5})d", text):
        return (datetime.now(UTC) + timedelta(days=int(found[1]))).isoformat(timespec="seconds")
    return text


def _shown(value: object) -> str:
    return ",".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
