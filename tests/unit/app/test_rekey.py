"""Moving all part keys from one key-encryption key to another: while others read, and after a crash in the middle."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safehold.app import kek as app_kek
from safehold.app.wiring import Home, HomeFactory
from safehold.model.errors import SafeholdError, StorageFailed, VerificationFailed
from safehold.model.ids import sha256_digest
from safehold.model.statements_access import KeysRewrapped
from tests.kek_kit import TOKEN, RecordedKms, ask, kms_server, transit_server

PASSPHRASE = "correct horse"
RELEASES = [sha256_digest(bytes([number])) for number in range(3)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = HomeFactory().create(tmp_path / "home", "north-lab.example/custody", PASSPHRASE)
    yield made
    made.close()


def settings(folder: Path, name: str = "key") -> Path:
    """A file that names a fresh key of a real transit server."""
    url, key = transit_server(), f"{name}-{secrets.token_hex(4)}"
    ask(url, f"transit/keys/{key}", {"type": "aes256-gcm96"})
    (folder / "token").write_text(TOKEN + "\n")
    path = folder / f"{name}.toml"
    path.write_text(f'kind = "transit"\nurl = "{url}"\nkey = "{key}"\ntoken_file = "{folder}/token"\n')
    return path


def fill(home: Home) -> dict[Any, dict[str, bytes]]:
    keys = {release: {f"{part:05d}-text.parquet": secrets.token_bytes(32) for part in range(4)} for release in RELEASES}
    for release, files in keys.items():
        home.part_keys(lambda: PASSPHRASE).store(release, files)
    return keys


def read(home: Home, keys: dict[Any, dict[str, bytes]]) -> None:
    opened = home.part_keys(lambda: PASSPHRASE)
    for release, files in keys.items():
        assert opened.unwrap(release, list(files)) == files


def told(home: Home) -> list[Any]:
    with home.log.view() as view:
        size = view.size()
    statements = [home.log.entry(index).statement for index in range(size)]
    return [one for one in statements if isinstance(one, KeysRewrapped)]


def quiet(_done: int, _total: int) -> None: ...


def test_all_keys_move_and_each_release_is_an_entry(home: Home, tmp_path: Path) -> None:
    keys, new = fill(home), settings(tmp_path)
    dry = home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=True)
    assert (dry.keys, dry.left, told(home)) == (0, 12, [])
    assert not (home.path / "kek.toml").exists()
    reading = home.part_keys(lambda: PASSPHRASE)  # opened before the move, and used after it
    report = home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=False)
    assert (report.keys, report.releases, report.left) == (12, 3, 0)
    assert sorted(one.release for one in told(home)) == sorted(RELEASES)
    assert {(one.kek, one.keys) for one in told(home)} == {(report.kek, 4)}
    for release, files in keys.items():
        assert reading.unwrap(release, list(files)) == files
    (home.path / "kek.json").unlink()  # nothing is wrapped by it any more
    read(home, keys)
    again = home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=False)
    assert (again.keys, again.entries) == (0, ())


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("entry", [False, True])
def test_a_crash_in_the_middle_loses_nothing_and_the_command_goes_on(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, entry: bool
) -> None:
    keys, new, left = fill(home), settings(tmp_path), [at]
    owner: Any = home.log if entry else home._key_store
    name = "append_statements" if entry else "replace"
    original = getattr(owner, name)

    def fail(*arguments: Any) -> Any:
        if not left[0]:
            raise StorageFailed("test.crash", "the process died here")
        left[0] -= 1
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(StorageFailed, match=r"test\.crash"):
            home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=False)
    read(home, keys)
    report = home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=False)
    assert report.left == 0
    read(home, keys)
    assert sorted(one.release for one in told(home)) == sorted(RELEASES)


def test_from_one_server_key_to_another_and_not_to_a_third_before_it_is_done(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = fill(home)
    home.rekey(settings(tmp_path, "first"), lambda: PASSPHRASE, quiet, dry_run=False)
    second = settings(tmp_path, "second")
    with monkeypatch.context() as patch:
        patch.setattr(home._key_store, "replace", lambda *_: (_ for _ in ()).throw(StorageFailed("test.crash", "here")))
        with pytest.raises(StorageFailed):
            home.rekey(second, lambda: PASSPHRASE, quiet, dry_run=False)
    read(home, keys)
    with pytest.raises(SafeholdError, match=r"app\.rekey_unfinished"):
        home.rekey(settings(tmp_path, "third"), lambda: PASSPHRASE, quiet, dry_run=False)
    assert home.rekey(second, lambda: PASSPHRASE, quiet, dry_run=False).left == 0
    assert not (home.path / "kek-before.toml").exists()
    read(home, keys)


def aws_settings(folder: Path, key: str, more: str = "") -> Path:
    """A file that names a key of the stand-in for AWS KMS."""
    server = kms_server()
    path = folder / "aws.toml"
    path.write_text(f'kind = "aws"\nkey = "{server.kms.arn(key)}"\nendpoint = "{server.url}"\n{more}')
    return path


def test_to_aws_kms_and_from_it(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, server = fill(home), kms_server()
    server.environment(monkeypatch)
    first = home.rekey(aws_settings(tmp_path, "first"), lambda: PASSPHRASE, quiet, dry_run=False)
    assert (first.keys, first.releases, first.left) == (12, 3, 0)
    assert first.kek.startswith("aws-")
    assert "secret" not in (home.path / "kek.toml").read_text(), "credentials stand in no file of ours"
    (home.path / "kek.json").unlink()
    read(home, keys)
    home.part_keys(lambda: PASSPHRASE).check()
    second = aws_settings(tmp_path, "second", 'region = "eu-central-1"\n')
    assert home.rekey(second, lambda: PASSPHRASE, quiet, dry_run=False).left == 0
    read(home, keys)
    away = settings(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(server.kms, "refuse", "AccessDeniedException")
        with pytest.raises(StorageFailed, match="kek_denied"):
            home.rekey(away, lambda: PASSPHRASE, quiet, dry_run=False)
        with pytest.raises(StorageFailed, match="kek_denied"):
            home.part_keys(lambda: PASSPHRASE).check()
    last = home.rekey(away, lambda: PASSPHRASE, quiet, dry_run=False)
    assert last.left == 0
    monkeypatch.setattr(server, "status", 500)  # nothing is asked of it any more
    read(home, keys)
    assert {one.kek for one in told(home)} >= {first.kek, last.kek}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('kind = "aws"', "app.kek_form"),
        ('kind = "aws"\nkey = "x"\nsecret = "x"', "app.kek_form"),
        ('kind = "gcp"\nkey = "x"', "app.kek_form"),
        ('kind = "aws"\nkey = "alias/x"', "vault.kek_address"),
        ('kind = "aws"\nkey = "ARN"\nregion = "us-east-1"', "vault.kek_address"),
        ('kind = "aws"\nkey = "ARN"\nendpoint = "http://kms.example"', "vault.kek_address"),
    ],
)
def test_a_file_that_names_no_key_of_aws(home: Home, tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "bad.toml").write_text(text.replace("ARN", RecordedKms.arn("x")))
    with pytest.raises(SafeholdError) as caught:
        home.rekey(tmp_path / "bad.toml", lambda: PASSPHRASE, quiet, dry_run=True)
    assert caught.value.code == code


def test_a_key_that_does_not_work_is_not_moved_to(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fill(home)
    (tmp_path / "bad.toml").write_text("kind = 1")
    for path, code in ((tmp_path / "bad.toml", "app.kek_form"), (tmp_path / "none.toml", "app.kek_file")):
        with pytest.raises(SafeholdError) as caught:
            home.rekey(path, lambda: PASSPHRASE, quiet, dry_run=False)
        assert caught.value.code == code
    new = settings(tmp_path)
    monkeypatch.setattr(app_kek.TransitKek, "unwrap", lambda _self, _wrapped: b"?" * 32)
    with pytest.raises(VerificationFailed, match=r"app\.rekey_proof"):
        home.rekey(new, lambda: PASSPHRASE, quiet, dry_run=False)
    assert not (home.path / "kek.toml").exists()
    monkeypatch.undo()
    read(home, keys)
