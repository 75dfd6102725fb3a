"""Opening stores with what the environment says: the one place where credentials meet a location."""

from __future__ import annotations

from safehold.app.settings import Settings
from safehold.vault.store import Store, parse_location
from safehold.vault.store_probe import open_store
from safehold.vault.store_s3 import S3Access

__all__ = ["open_location"]


def open_location(text: str, settings: Settings) -> Store:
    """The store at ``text``: a folder, or ``s3://BUCKET/PREFIX``. Raises as ``vault.store_probe.open_store``."""
    access = S3Access(
        key_id=settings.s3_key_id,
        secret=settings.s3_secret,
        token=settings.s3_token,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
    )
    return open_store(parse_location(text), access)
