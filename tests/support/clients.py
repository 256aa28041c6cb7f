"""The clients of the matrix, at exact versions: those for Python in environments of their own, as they disagree.

`python -m tests.support.clients` installs them all at once. The newest SDKs are in the tests' own environment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support import npm

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
REQUIREMENTS = CLIENTS / "requirements"
_ENVIRONMENTS = ROOT / ".venv-clients"
_INSTALL_SECONDS = 600


def ensure_node() -> None:
    """Install the packages for Node."""
    npm.ensure_installed(CLIENTS)


def ensure_environment(name: str) -> Path:
    """Install an environment if its requirements changed; returns the directory of its programs."""
    wanted, environment = REQUIREMENTS / f"{name}.txt", _ENVIRONMENTS / name
    if not _is_installed(wanted, environment):
        with npm.locked(wanted):
            if not _is_installed(wanted, environment):
                _install(wanted, environment)
    return environment / "bin"


def _is_installed(wanted: Path, environment: Path) -> bool:
    try:
        return _stamp(environment).read_bytes() == wanted.read_bytes()
    except OSError:
        return False


def _install(wanted: Path, environment: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"))
    # Every requirement is named and hashed, so there is nothing to resolve, and nothing to build.
    # Compiling belongs to the first import: most of it is never imported.
    exact = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile")
    _run(*pip, "install", "--quiet", "--disable-pip-version-check", *exact, "-r", str(wanted))
    shutil.copyfile(wanted, _stamp(environment))


def _stamp(environment: Path) -> Path:
    """The requirements that were installed."""
    return environment / "installed.txt"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")


def _ensure_all() -> None:
    with ThreadPoolExecutor() as pool:
        names = [path.stem for path in REQUIREMENTS.glob("*.txt")]
        for done in [pool.submit(ensure_node), *(pool.submit(ensure_environment, name) for name in names)]:
            done.result()


if __name__ == "__main__":
    _ensure_all()
