r"""A step's prompt: `{{previous}}`, `{{input}}` and `{{steps.NAME.output}}` stand for what came before.

`\{{` stands for two braces that are meant as such. What is put in is never looked at again, whatever it holds. Braces
around anything but a word (`{{ a | b }}`) are left as they are; an unknown word is refused, for it may be a slip.
"""

import re
from collections.abc import Mapping

from actors.errors import Code, Refusal

_MARK = re.compile(r"\\\{\{|\{\{[ \t]*([A-Za-z0-9_.-]+)[ \t]*\}\}")


def words(template: str) -> set[str]:
    """The words in double braces."""
    return {found[1] for found in _MARK.finditer(template) if found[1]}


def check(template: str, known: set[str], param: str) -> None:
    """Raise `Refusal` naming `param` for a word that stands for nothing."""
    for word in sorted(words(template) - known):
        message = (
            f"{param}: {{{{{word}}}}} stands for nothing here; there are: "
            f"{', '.join(sorted(known)) or 'none'}. For braces as such, write \\{{{{"
        )
        raise Refusal(Code.INVALID_REQUEST, message, param=param)


def fill(template: str, values: Mapping[str, str], most: int) -> str:
    """The template with its words replaced. Raises `Refusal` if it becomes longer than `most`."""
    length = len(template) + sum(len(values[word[1]]) for word in _MARK.finditer(template) if word[1])
    if length > most:
        raise Refusal(Code.TOO_LARGE, f"the prompt with all it stands for is longer than {most} characters")
    return _MARK.sub(lambda found: values[found[1]] if found[1] else "{{", template)
