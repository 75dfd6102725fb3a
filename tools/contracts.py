"""Two kinds of import contract, read from pyproject.toml by ``lint-imports``.

``room``: a room imports only the rooms listed. Import-linter's own kinds fail on a module that does not exist yet;
this one lets the whole plan stand in the file from the first day. It also keeps a room's private modules (their
name starts with an underscore) private to that room.

``home``: an outside library is imported in its homes and nowhere else.

Both look at direct imports, including those inside functions and under ``TYPE_CHECKING``: a chain has no way past
them, since each of its links is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grimp import ImportGraph

__all__ = ["HomeContract", "RoomContract"]

_PACKAGE = "safehold"


def _room_of(module: str) -> str:
    """The room of ``safehold.ROOM.…``; the empty string for the package root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _is_private(module: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in module.split(".")[2:])


def _is_in(module: str, homes: Iterable[str]) -> bool:
    return any(module == f"{_PACKAGE}.{home}" or module.startswith(f"{_PACKAGE}.{home}.") for home in homes)


class _DirectImports(Contract):
    """What both kinds share: collect direct imports that are not allowed, and print them."""

    def broken(self, graph: ImportGraph) -> list[tuple[str, str]]:
        """Pairs of importer and imported that the contract forbids."""
        raise NotImplementedError

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Return whether the contract is kept, with the offending imports."""
        broken = sorted(self.broken(graph))
        lines = [
            f"{importer} imports {imported} (line {', '.join(map(str, self._lines(graph, importer, imported)))})"
            for importer, imported in broken
        ]
        return ContractCheck(kept=not broken, metadata={"lines": lines})

    @staticmethod
    def _lines(graph: ImportGraph, importer: str, imported: str) -> list[int]:
        details = graph.get_import_details(importer=importer, imported=imported)
        return sorted({detail["line_number"] for detail in details})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line for each import that breaks the contract."""
        for line in check.metadata["lines"]:
            output.print_error(line, bold=False)


class RoomContract(_DirectImports):
    """``room`` may import the rooms in ``may_import``, itself, and the package root."""

    type_name = "room"

    room = fields.StringField()
    may_import = fields.ListField(subfield=fields.StringField())

    def broken(self, graph: ImportGraph) -> list[tuple[str, str]]:
        """Imports of a room that is not listed, or of a private module of another room."""
        room = cast("str", self.room)
        allowed = {"", room, *cast("list[str]", self.may_import)}
        return [
            (module, imported)
            for module in graph.modules
            if _is_in(module, [room])
            for imported in graph.find_modules_directly_imported_by(module)
            if imported == _PACKAGE or imported.startswith(f"{_PACKAGE}.")
            if _room_of(imported) not in allowed or (_room_of(imported) != room and _is_private(imported))
        ]


class HomeContract(_DirectImports):
    """``library`` (its import name) is imported only by the rooms or modules in ``homes``."""

    type_name = "home"

    library = fields.StringField()
    homes = fields.ListField(subfield=fields.StringField())

    def broken(self, graph: ImportGraph) -> list[tuple[str, str]]:
        """Imports of the library outside its homes."""
        library = cast("str", self.library)
        if library not in graph.modules:
            return []
        return [
            (importer, library)
            for importer in graph.find_modules_that_directly_import(library)
            if not _is_in(importer, cast("list[str]", self.homes))
        ]
