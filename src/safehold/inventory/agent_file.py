"""The agent as one file: a zip archive that ``python3 -I -S agent.pyz`` runs, the same bytes wherever it is built.

It holds the agent's sources exactly as they are, stored and not compressed, in a fixed order with fixed times: so its
digest depends on the sources alone, and whoever has them can build it again and compare.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Final

from safehold.inventory import agent
from safehold.model.errors import StorageFailed

__all__ = ["agent_archive", "agent_sources", "write_agent"]

_TIME: Final = (1980, 1, 1, 0, 0, 0)
_START: Final = b"from safehold.inventory.agent.program import main\n\nraise SystemExit(main())\n"


def agent_sources() -> dict[str, bytes]:
    """The files of the archive by their names in it, in order: packages without contents above, the agent below."""
    folder = Path(agent.__file__).parent
    files = {"__main__.py": _START, "safehold/__init__.py": b"", "safehold/inventory/__init__.py": b""}
    return files | {f"safehold/inventory/agent/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}


def agent_archive() -> bytes:
    """The archive's bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in agent_sources().items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return b"#!/usr/bin/env -S python3 -I -S\n" + stream.getvalue()


def write_agent(path: Path) -> Path:
    """Write the archive, executable; whole or not there. Raises ``StorageFailed`` (``inventory.agent_write``)."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(agent_archive())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o755)
        temporary.replace(path)
    except OSError as error:
        raise StorageFailed("inventory.agent_write", f"{path} cannot be written: {error.strerror}") from error
    return path
