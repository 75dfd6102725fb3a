"""Settings: everything that Safehold takes from the environment, read here and nowhere else.

=========================== =====================================================================
variable                    meaning
=========================== =====================================================================
SAFEHOLD_HOME               the home folder, where ``--home`` is not given (default: ``safehold-home``)
SAFEHOLD_PASSPHRASE_FILE    a file whose first line opens the key-encryption key
SAFEHOLD_PASSPHRASE         the passphrase itself; a file is better, since other processes may see this
=========================== =====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["SETTINGS", "Settings", "read_settings"]

SETTINGS: Final = ("SAFEHOLD_HOME", "SAFEHOLD_PASSPHRASE", "SAFEHOLD_PASSPHRASE_FILE")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says. ``passphrase`` never appears in an error or in a log."""

    home: Path
    passphrase: str | None
    passphrase_file: Path | None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the variables in ``SETTINGS``; empty ones count as not set."""
    file = environment.get("SAFEHOLD_PASSPHRASE_FILE")
    return Settings(
        home=Path(environment.get("SAFEHOLD_HOME") or "safehold-home"),
        passphrase=environment.get("SAFEHOLD_PASSPHRASE") or None,
        passphrase_file=Path(file) if file else None,
    )
