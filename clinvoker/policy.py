"""What a call may do: its backend and options completed from the key's and the configuration's, and held to their bounds."""

from collections.abc import Mapping

from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Options
from clinvoker import workdir
from clinvoker.backends.choice import Backend, choose, with_defaults
from clinvoker.callers import Callers
from clinvoker.config import KeyDefaults, KeySettings, Settings
from clinvoker.config.modes import (
    APPROVAL_MODES,
    SANDBOX_MODES,
    bounded_approval,
    bounded_sandbox,
    is_looser,
)


class Policy:
    """The rules of one configuration. Every method raises a `Refusal` that names the field at fault."""

    def __init__(self, settings: Settings) -> None:
        self._default_backend = settings.default_backend
        self._server = settings.server
        self._callers = Callers(settings)

    def name_of(self, caller: str) -> str:
        """What people call the caller's key; empty without one."""
        return self._callers.name_of(caller)

    def key_of(self, caller: str) -> KeySettings | None:
        """What the caller's key may, where that is written down."""
        return self._callers.key_of(caller)

    def plan(
        self,
        backends: Mapping[str, Backend],
        caller: str,
        wanted: str,
        options: Options,
        *,
        scratch: bool = False,
    ) -> tuple[Backend, Options]:
        """The backend of a new session, and its whole options; a working directory as its real path.

        With `scratch` there is none, whatever the key says.
        """
        key = self.key_of(caller)
        given = KeyDefaults() if key is None else key.defaults
        usual = given.backend or self._default_backend
        name = wanted or usual
        backend = choose(backends, name)
        self.check_backend(caller, name)
        options = replace(
            options,
            model=options.model or (given.model if name == usual else ""),
            workdir="" if scratch else options.workdir or given.workdir,
            approval_mode=_or(options.approval_mode, given.approval_mode),
            sandbox_mode=_or(options.sandbox_mode, given.sandbox_mode),
        )
        self.check_modes(options)
        options = self.bounded(with_defaults(options, backend.settings))
        if options.workdir:
            options = replace(options, workdir=self.work_in(caller, options.workdir))
        return backend, options

    def may_use(self, caller: str, name: str) -> bool:
        """Whether the caller's key is for this backend as well."""
        key = self.key_of(caller)
        return key is None or not key.backends or name in key.backends

    def check_backend(self, caller: str, name: str) -> None:
        """A key may be for some backends only."""
        if not self.may_use(caller, name):
            raise Refusal(Code.FORBIDDEN, f"this key may not use {name}", param="backend")

    def check_modes(self, options: Options) -> None:
        """Nobody gets looser modes than the daemon allows, a session that began when it allowed more included."""
        server = self._server
        if is_looser(options.approval_mode, server.max_approval_mode, APPROVAL_MODES):
            message = f"approval_mode may be {server.max_approval_mode} at most, not {options.approval_mode}"
            raise Refusal(Code.FORBIDDEN, message, param="approval_mode")
        if is_looser(options.sandbox_mode, server.max_sandbox_mode, SANDBOX_MODES):
            message = f"sandbox_mode may be {server.max_sandbox_mode} at most, not {options.sandbox_mode}"
            raise Refusal(Code.FORBIDDEN, message, param="sandbox_mode")

    def bounded(self, options: Options) -> Options:
        """The options, where nobody has asked for a mode no looser than the bound."""
        return replace(
            options,
            approval_mode=bounded_approval(options.approval_mode, self._server),
            sandbox_mode=bounded_sandbox(options.sandbox_mode, self._server),
        )

    def check_session(self, caller: str, backend: str, options: Options) -> None:
        """A session goes on only under the rules of today."""
        self.check_backend(caller, backend)
        self.check_modes(options)
        if self.bounded(options) != options:
            message = "the session began when more was allowed than server.max_*_mode allow now"
            raise Refusal(Code.FORBIDDEN, message, param="session_id")

    def work_in(self, caller: str, path: str) -> str:
        """The real path of a directory in which the caller's agents may work."""
        key, server = self.key_of(caller), self._server
        real = workdir.resolve(path, server.allowed_workdir_prefixes, server.blocked_workdir_prefixes)
        return real if key is None else workdir.resolve(real, key.workdirs, ())

    def still_work_in(self, caller: str, real: str) -> None:
        """Check a real path again, at the moment of use: what is there may have become a link, or forbidden."""
        if real and self.work_in(caller, real) != real:
            message = "workdir is no longer the directory that it was when it was checked"
            raise Refusal(Code.FORBIDDEN, message, param="workdir")


def _or(asked: str, given: str) -> str:
    return given if asked == "default" else asked
