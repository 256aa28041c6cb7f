"""The one way in which a configuration is wrong."""


class ConfigError(Exception):
    """The configuration cannot be used. `str()` is one printable line: where, which key, what is wrong, no secret.

    Shape: `/path/config.toml: server.port: expected int <= 65535, got 99999`. The user can mend it.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(_printable(f"{where}: {problem}"))


def _printable(text: str) -> str:
    """Escape whatever a terminal would act on or an encoder would refuse (newlines, escapes, lone surrogates)."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
