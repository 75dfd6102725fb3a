"""Settings: everything that Safehold takes from the environment, read here and nowhere else.

=========================== =====================================================================
variable                    meaning
=========================== =====================================================================
SAFEHOLD_HOME               the home folder, where ``--home`` is not given (default: ``safehold-home``)
SAFEHOLD_PASSPHRASE_FILE    a file whose first line opens the key-encryption key
SAFEHOLD_PASSPHRASE         the passphrase itself; a file is better, since other processes may see this
AWS_ACCESS_KEY_ID           the access key of stores at ``s3://``
AWS_SECRET_ACCESS_KEY       its secret; it goes into no file, entry or message
AWS_SESSION_TOKEN           the token of a temporary access key
AWS_REGION                  the region of the bucket (default: ``us-east-1``)
SSH_AUTH_SOCK               where ssh-agent listens, for keys that are named by their public half
AWS_DEFAULT_REGION          the same, where ``AWS_REGION`` is not set
AWS_ENDPOINT_URL_S3         the S3 server, where it is not Amazon's
AWS_ENDPOINT_URL            the same, where ``AWS_ENDPOINT_URL_S3`` is not set
=========================== =====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["SETTINGS", "Settings", "read_settings"]

SETTINGS: Final = (
    "SAFEHOLD_HOME",
    "SAFEHOLD_PASSPHRASE",
    "SAFEHOLD_PASSPHRASE_FILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "SSH_AUTH_SOCK",
    "AWS_ENDPOINT_URL",
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says. ``passphrase`` and what S3 is opened with never appear in an error or in a log."""

    home: Path
    passphrase: str | None
    passphrase_file: Path | None
    s3_key_id: str | None = None
    s3_secret: str | None = None
    s3_token: str | None = None
    s3_region: str | None = None
    s3_endpoint: str | None = None
    ssh_agent: Path | None = None

    def __repr__(self) -> str:
        return f"Settings(home={self.home!r})"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the variables in ``SETTINGS``; empty ones count as not set."""
    file = environment.get("SAFEHOLD_PASSPHRASE_FILE")
    agent = environment.get("SSH_AUTH_SOCK")
    return Settings(
        home=Path(environment.get("SAFEHOLD_HOME") or "safehold-home"),
        passphrase=environment.get("SAFEHOLD_PASSPHRASE") or None,
        passphrase_file=Path(file) if file else None,
        s3_key_id=environment.get("AWS_ACCESS_KEY_ID") or None,
        s3_secret=environment.get("AWS_SECRET_ACCESS_KEY") or None,
        s3_token=environment.get("AWS_SESSION_TOKEN") or None,
        ssh_agent=Path(agent) if agent else None,
        s3_region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None,
        s3_endpoint=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None,
    )
