"""A bucket as a store: S3 through ``obstore`` (Apache's object_store), the extra ``[s3]``.

* **Conditional writes** are S3's own ``If-None-Match: *`` and ``If-Match``. A store that ignores them is refused before
  it is used (``store_probe``).
* **A lost answer is no lost write.** After a reset the client sends a conditional write again and is told that the
  object is there: it is then read, and if it is, byte for byte, what was sent, the write was ours.
* **Large files go in pieces** of 16 MiB (multipart), each with its SHA-256, which the server checks. They become an
  object in one step at the end; a sealer that dies leaves pieces that no reader sees.
* **Reads are ranges** of 8 MiB at most, so that a slow or broken answer costs one piece.
* Server errors, resets and timeouts are tried again, with growing pauses, within the limits below; then refused.
  The library tries single requests again; an answer that breaks off in the middle, and an upload whose end was not
  confirmed, are tried again here. That is safe: reading changes nothing, and an upload puts the same bytes.

Errors name what S3 calls the failure, never its whole answer: that may hold an access key.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from safehold.model.errors import Conflict, InputInvalid, NotFound, SafeholdError, StorageFailed
from safehold.vault.disk import storage_failed
from safehold.vault.store import Location, StoredObject, check_name

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["BucketStore", "S3Access", "StoreLimits"]

_T = TypeVar("_T")
_RANGE: Final = 8 << 20
_AT_ONCE: Final = 4
_TRIES: Final = 3
_CODE_RE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>|status(?: code)?:? ?(\d{3})|\b([45]\d\d) [A-Z]")


class S3Access(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says of S3. Credentials live here and in memory alone; ``repr`` shows none."""

    key_id: str | None = None
    secret: str | None = None
    token: str | None = None
    region: str | None = None
    endpoint: str | None = None

    def __repr__(self) -> str:
        return f"S3Access(region={self.region!r}, endpoint={self.endpoint!r})"


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to keep trying (times after the first, seconds in all, seconds without an answer), and bytes of a piece."""

    retries: int = 6
    retry_seconds: float = 60.0
    read_seconds: float = 20.0
    request_seconds: float = 120.0
    first_pause: float = 0.1
    piece: int = 16 << 20


class BucketStore:
    """Objects below a prefix of one bucket."""

    def __init__(self, location: Location, access: S3Access, limits: StoreLimits | None = None) -> None:
        """Prepare the client; nothing is sent yet.

        Raises ``NotFound`` (``vault.no_s3``) without the library, ``InputInvalid`` (``vault.store_credentials``) without
        credentials, ``vault.store_location`` for a folder.
        """
        if location.bucket is None:
            raise InputInvalid("vault.store_location", f"{location.path!r} is no bucket", "name s3://BUCKET/PREFIX")
        self.location = location
        self.endpoint = access.endpoint
        self._prefix = f"{location.path}/" if location.path else ""
        self._limits = limits or StoreLimits()
        self._client = _client(location.bucket, access, self._limits)

    def create(self, name: str, data: bytes) -> str:
        """See ``Store``."""
        import obstore

        with self._translated(name):
            try:
                return _tag(obstore.put(self._client, self._key(name), data, mode="create", use_multipart=False))
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError) as error:
                return self._ours(name, data, self._exists(name), error)

    def replace(self, name: str, data: bytes, tag: str) -> str:
        """See ``Store``."""
        import obstore

        with self._translated(name):
            try:
                # No "version" here: obstore takes it for a type error even where it is None.
                return _tag(obstore.put(self._client, self._key(name), data, mode={"e_tag": tag}, use_multipart=False))
            except (obstore.exceptions.PreconditionError, obstore.exceptions.AlreadyExistsError) as error:
                return self._ours(name, data, self._changed(name), error)

    def upload(self, name: str, path: Path) -> None:
        """See ``Store``."""
        import obstore

        def put() -> None:
            try:
                file = path.open("rb")
            except OSError as error:
                raise storage_failed(error, str(path)) from error
            with file:
                size = os.fstat(file.fileno()).st_size
                obstore.put(
                    self._client,
                    self._key(name),
                    file,
                    use_multipart=size > self._limits.piece,
                    chunk_size=max(self._limits.piece, -(-size // 9_000)),  # S3 takes at most 10,000 pieces
                    max_concurrency=_AT_ONCE,
                )

        self._again(name, put)

    def read(self, name: str, limit: int) -> tuple[bytes, str]:
        """See ``Store``."""
        import obstore

        def get() -> tuple[bytes, str]:
            found = obstore.get(self._client, self._key(name))
            tag, size = _tag(found.meta), found.meta["size"]
            # One answer, so that tag and bytes are of one object; a huge one is not read whole.
            return (bytes(found.bytes()) if size <= limit else self.read_range(name, 0, limit)), tag

        return self._again(name, get)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See ``Store``."""
        import obstore

        key = self._key(name)
        end = min(start + length, self._again(name, lambda: int(obstore.head(self._client, key)["size"])))

        def piece(begin: int) -> bytes:
            return bytes(obstore.get_range(self._client, key, start=begin, length=min(_RANGE, end - begin)))

        return b"".join(self._again(name, partial(piece, begin)) for begin in range(start, end, _RANGE))

    def find(self, name: str) -> StoredObject | None:
        """See ``Store``."""
        import obstore

        try:
            return self._again(name, lambda: self._object(obstore.head(self._client, self._key(name))))
        except NotFound:
            return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ``Store``."""
        import obstore

        below = (self._key(prefix) + "/" if prefix else self._prefix) or None
        # All pages before the first object: a listing that breaks off is begun anew.
        pages = self._again(prefix, lambda: list(obstore.list(self._client, below, chunk_size=1000)))
        for page in pages:
            yield from map(self._object, page)

    def delete(self, name: str) -> None:
        """See ``Store``."""
        import obstore

        self._again(name, lambda: obstore.delete(self._client, self._key(name)))

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _object(self, found: Any) -> StoredObject:
        modified = int(found["last_modified"].timestamp() * 1_000_000)
        return StoredObject(str(found["path"]).removeprefix(self._prefix), int(found["size"]), modified)

    def _ours(self, name: str, data: bytes, refusal: Conflict, cause: BaseException) -> str:
        """The tag of an object that turns out to be what was just sent; else ``refusal``."""
        found, tag = self.read(name, len(data) + 1)
        if found == data:
            return tag
        raise refusal from cause

    def _exists(self, name: str) -> Conflict:
        return Conflict("vault.store_exists", f"{name} is in {self.location.url} already", "nothing was written")

    def _changed(self, name: str) -> Conflict:
        return Conflict(
            "vault.store_changed",
            f"{name} in {self.location.url} was changed by someone else",
            "look at it again, then decide",
        )

    def _again(self, name: str, call: Callable[[], _T]) -> _T:
        """``call``, which may be repeated, until it succeeds, fails for good or has been tried often enough."""
        end = time.monotonic() + self._limits.retry_seconds
        for number in range(1, _TRIES + 1):
            try:
                with self._translated(name):
                    return call()
            except StorageFailed as error:
                if error.code != "vault.store_failed" or number == _TRIES or time.monotonic() > end:
                    raise
                time.sleep(self._limits.first_pause * 2**number)
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        from obstore import exceptions

        what = f"{name} in {self.location.url}" if name else self.location.url
        try:
            yield
        except SafeholdError:
            raise
        except (exceptions.NotFoundError, FileNotFoundError):
            raise NotFound("vault.store_missing", f"there is no {what}", "check the location") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise _denied(what, error) from None
        except exceptions.BaseError as error:
            if _reason(error) in {"403", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"}:
                raise _denied(what, error) from None
            raise StorageFailed(
                "vault.store_failed",
                f"the store did not do what it was asked for {what}: {_reason(error)}",
                "nothing is half done: look whether the store is up, then run the same command again",
            ) from None  # the cause's text may hold what the server echoed of the request
        except OSError as error:
            raise storage_failed(error, what) from error


def _client(bucket: str, access: S3Access, limits: StoreLimits) -> S3Store:
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise NotFound(
            "vault.no_s3", "the library for S3 is not installed here", "install Safehold with its extra: safehold[s3]"
        ) from error
    if not access.key_id or not access.secret:
        raise InputInvalid(
            "vault.store_credentials",
            f"there are no credentials for s3://{bucket}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )
    config: dict[str, Any] = {
        "access_key_id": access.key_id,
        "secret_access_key": access.secret,
        "region": access.region or "us-east-1",
        "checksum_algorithm": "SHA256",
        "conditional_put": "etag",
    }
    if access.token:
        config["session_token"] = access.token
    if access.endpoint:
        config["endpoint"] = access.endpoint
    return S3Store(
        bucket,
        config=config,  # type: ignore[arg-type]  # a TypedDict that is put together
        client_options={
            "allow_http": bool(access.endpoint and access.endpoint.startswith("http://")),
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=limits.read_seconds),
            "timeout": timedelta(seconds=limits.request_seconds),
        },
        retry_config={
            "max_retries": limits.retries,
            "retry_timeout": timedelta(seconds=limits.retry_seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=limits.first_pause),
                "max_backoff": timedelta(seconds=limits.first_pause * 50),
                "base": 2,
            },
        },
    )


def _tag(result: Any) -> str:
    return str(result["e_tag"])


def _reason(error: Exception) -> str:
    """What S3 calls it, or the kind of failure; never the text of the answer."""
    text = str(error)
    match = _CODE_RE.search(text)
    if match is not None:
        return next(group for group in match.groups() if group)
    for word, reason in (("timed out", "no answer in time"), ("timeout", "no answer in time")):
        if word in text:
            return reason
    return "the connection failed" if "sending request" in text or "error decoding" in text else "it failed"


def _denied(what: str, error: Exception) -> StorageFailed:
    return StorageFailed(
        "vault.store_denied",
        f"the store refuses access to {what} ({_reason(error)})",
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do",
    )
