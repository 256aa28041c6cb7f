"""One table of results in Markdown, with what it does and does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table. `note` tells what is measured; the first column names the rows."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        head = ["| " + " | ".join(self.columns) + " |"]
        head.append("|---|" + "---:|" * (len(self.columns) - 1))
        body = ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([f"### {self.title}", "", self.note, "", *head, *body])
