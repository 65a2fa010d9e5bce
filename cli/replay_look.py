"""`barmill replay` looks at its files first, says what they are, and which options may help."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import UserError
from control.jobs.replay_run import Request
from feed.files.errors import ReplayFileError
from feed.files.layout import Layout
from feed.providers.inspection import Inspected, as_json, as_text, in_natural_order, inspect

_DOCUMENTS_SHOWN = 5


@dataclass(frozen=True)
class Looked:
    """What was found. files: in the order to read them; reordered: whether that is another one than was given."""

    files: Sequence[Path]
    seen: Sequence[Inspected]
    reordered: bool
    given: Mapping[str, object]

    @property
    def ticks(self) -> int:
        """Return how many ticks were found."""
        return sum(one.found.ticks for one in self.seen)

    def as_text(self, *, short: bool = False) -> str:
        """Describe all documents; short: only the first of many."""
        shown = self.seen[:_DOCUMENTS_SHOWN] if short else self.seen
        lines = [as_text(one) for one in shown]
        if more := len(self.seen) - len(shown):
            lines.append(f"and {more:,} more; --dry-run shows all of them")
        if self.reordered:
            lines.append(f"Files are read as {', '.join(map(str, self.files))[:300]}, since their times rise so.")
        return "\n".join([*lines, *(f"suggestion: {text}" for text in self.advice())])

    def as_json(self) -> str:
        """Describe all documents as JSON."""
        seen = [as_json(one, one.found.advice(self.given)) for one in self.seen]
        return json.dumps({"files": list(map(str, self.files)), "documents": seen})

    def advice(self) -> list[str]:
        """Return what may help, each once, with the document that it is about where there are several."""
        found = dict[str, str]()
        for one in self.seen:
            for text in one.found.advice(self.given):
                found.setdefault(text, one.shape.document.shown)
        several = len(self.seen) > 1
        return [f"{name}: {text}" if several else text for text, name in found.items()]


def look(request: Request, args: argparse.Namespace) -> Looked:
    """Look at the files, all of them if nothing else is to be done; raise UserError where one cannot be read."""
    layout = request.layout if isinstance(request.layout, Layout) else Layout.of_names(request.layout)
    given = {
        "zone": layout.zone,
        "decimal": layout.decimal,
        "signed": layout.absolute,
        "id": "id" in layout.sources,
        "sort": request.by_time,
        "newest_first": request.newest_first,
    }
    try:
        seen = inspect(request.files, layout, request.lateness_ms, whole=args.dry_run)
        better = in_natural_order(request.files, seen)
        if better is not None:
            seen = inspect(better, layout, request.lateness_ms, whole=args.dry_run)
    except ReplayFileError as error:
        raise UserError(str(error)) from error
    return Looked(better or request.files, seen, better is not None, given)
