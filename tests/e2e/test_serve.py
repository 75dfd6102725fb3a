"""`safehold serve` as people run it: two real processes, the command line and Python as clients."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from safehold.broker.client import KeyOrder
from safehold.broker.connection import Connection, Patience, connect
from safehold.broker.http_form import KeysAnswer, LeaseAnswer, LeasedAnswer
from safehold.broker.request import LeasedKeys, LeaseWish, SealedKeys, SealedLease
from safehold.cli.grant_file import read_grant_file
from safehold.inventory import agent
from safehold.ledger import sshsig
from safehold.ledger.keys import SigningKey
from safehold.ledger.ssh_agent import AgentKey, list_agent_keys
from safehold.model.errors import InputInvalid, NotFound, Refused, StorageFailed, VerificationFailed
from safehold.model.ids import HostId, Subject, parse_group_name, parse_purpose
from safehold.state.standing import active_holds, resolve_release
from tests.cli_kit import shell
from tests.serve_kit import ready_desk, running

TRAINER = HostId("north-lab/trainer")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return ready_desk(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def served(desk):
    with running(desk) as server:
        yield server


@pytest.fixture(scope="module")
def order(desk):
    home = desk.session().factory().open(desk.home)
    with home.log.view() as view:
        row = resolve_release(view, "quill-works/problems@1")
    home.close()
    return KeyOrder(
        release=row.release, groups=[parse_group_name(one) for one in row.groups], purpose=parse_purpose("training"),
        host=TRAINER, member=None, grant=read_grant_file(desk.folder / "grant.json").token,
    )  # fmt: skip


@pytest.fixture
def key(desk):
    return desk.home / "keys" / "hosts" / TRAINER


def memory_of(process: int):
    """What a process holds in memory that it can write: where a key would be."""
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in maps:
            place, rights, *rest = line.split()
            if not rights.startswith("rw") or (rest and rest[-1] in ("[vvar]", "[vsyscall]")):
                continue
            begin, end = (int(one, 16) for one in place.split("-"))
            memory.seek(begin)
            try:
                yield memory.read(end - begin)
            except OSError:
                continue


def holds_any(process: int, wanted) -> bool:
    return any(one in block for block in memory_of(process) for one in wanted)


def test_the_command_line_opens_through_the_server_byte_for_byte(desk, served):
    out = desk.folder / "out.jsonl"
    said = desk.json(
        "open", "quill-works/problems@1", "--host", TRAINER, "--grant", desk.folder / "grant.json", "--out", out,
        "--broker", served.url,
    )  # fmt: skip
    assert said["as_sealed"]
    assert out.read_bytes() == (desk.folder / "texts.jsonl").read_bytes()
    assert desk.json("log", "show", said["entry"])["kind"] == "key.released"


def test_the_front_never_has_a_data_key_in_its_memory_and_the_search_finds_it_where_it_is(served, key, order):
    if os.geteuid():
        pytest.skip("only root reads another process's memory")
    with connect(served.url, key) as connection:
        found = [connection.request(order) for _ in range(20)]
        keys = {one for opened in found for one in opened.keys.values()}
        assert len(keys) == len(found[0].keys) >= 1
        assert holds_any(os.getpid(), keys), "the search finds keys where they are"
        assert not holds_any(served.front, keys)
        # The other direction: the front did see this traffic.
        assert holds_any(served.front, [order.grant.encode()[:64], order.release.encode()])


def test_the_vault_process_loads_no_server_and_reaches_no_network(served):
    command = "import safehold.app.serve.vault_process, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-c", command], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("_")} - set(sys.stdlib_module_names)
    assert loaded <= {
        "apsw", "biscuit_auth", "cryptography", "msgspec", "packaging", "safehold", "typing_extensions",
        "psycopg", "psycopg_binary", "cffi",
    }  # fmt: skip
    assert Path(f"/proc/{served.vault}/cmdline").read_bytes().split(b"\0")[1] == b"-I"
    assert not any(b"SAFEHOLD" in one for one in Path(f"/proc/{served.front}/environ").read_bytes().split(b"\0"))
    limits = Path(f"/proc/{served.vault}/limits").read_text()
    assert "Max core file size        0 " in limits


def test_what_the_vault_process_gives_up_is_gone():
    script = """
import socket, subprocess, sys
from safehold.app.serve.hardened import forbid_programs, forbid_reading, only_connect
from safehold.model.errors import Refused
import ctypes
forbid_reading()
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0, "it can be read"
forbid_programs(); only_connect([8200])
for act in (lambda: subprocess.run(["true"]), lambda: socket.create_connection(("127.0.0.1", 9))):
    try: act()
    except Refused as error: print(error.code)
try: socket.create_connection(("127.0.0.1", 8200))
except ConnectionRefusedError: print("allowed")
except OSError as error: print("allowed", error)
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:3] == ["serve.no_programs", "serve.no_network", "allowed"]


def test_a_hold_stops_the_next_request_and_its_lifting_lets_it_pass(desk, served, key, order):
    with connect(served.url, key) as connection:
        before = connection.request(order)
        connection.check(order)
        desk("suspend", "host:north-lab/trainer", "--reason", "a review")
        with pytest.raises(Refused) as caught:
            connection.request(order)
        assert caught.value.code == "broker.held"
        assert caught.value.entry > before.entry
        with pytest.raises(Refused, match="a review"):
            connection.check(order)
        desk("inventory", "record", TRAINER, "--environment", desk.folder / "environment")
        desk("lift", "host:north-lab/trainer", "--reason", "all is well")
        assert connection.request(order).keys == before.keys


def test_a_revoked_grant_opens_nothing_from_its_entry_on(desk, served, key, order):
    """Revoked by another process while the server runs and remembers the grant: it bites at the very next request."""
    grant = desk.folder / "revoked.json"
    desk("grant", "issue", "quill-works/problems", "--to", TRAINER, "--until", "+30d", "--out", grant)
    asked = msgspec.structs.replace(order, grant=read_grant_file(grant).token)
    with connect(served.url, key) as connection:
        before = [connection.request(asked) for _ in range(3)]
        lease = connection.lease(asked, LeaseWish(120, 1000))
        lease.request_keys(asked.release, asked.groups)
        said = shell(
            "--home", desk.home, "--json", "grant", "revoke", grant, "--reason", "a laptop was lost", cwd=desk.folder
        )  # fmt: skip
        revoked = json.loads(said.out)["entry"]
        with pytest.raises(Refused) as caught:
            connection.request(asked)
        assert caught.value.code == "broker.grant_revoked"
        assert before[-1].entry < revoked < caught.value.entry
        with pytest.raises(Refused) as caught:
            lease.request_keys(asked.release, asked.groups)
        assert caught.value.code == "broker.grant_revoked"
        assert connection.request(order).keys == before[0].keys, "another grant goes on"


def test_a_lease_over_http_and_what_ends_it(desk, served, key, order):
    with connect(served.url, key) as connection:
        plain = connection.request(order).keys
        lease = connection.lease(order, LeaseWish(120, 1000))
        entries = [lease.request_keys(order.release, order.groups) for _ in range(5)]
        assert [one.keys for one in entries] == [plain] * 5
        assert len({one.entry for one in entries}) == 5, "each is an entry of its own"
        desk("suspend", "host:north-lab/trainer", "--reason", "a review")
        with pytest.raises(Refused) as caught:
            lease.request_keys(order.release, order.groups)
        assert caught.value.entry is not None
        desk("inventory", "record", TRAINER, "--environment", desk.folder / "environment")
        desk("lift", "host:north-lab/trainer", "--reason", "all is well")
        with pytest.raises(Refused):
            lease.request_keys(order.release, order.groups)


def test_no_key_over_http_has_a_higher_place_than_the_hold(desk, served, key, order):
    """32 readers, each on a connection of its own, while a hold lands; all in several rounds, none after the hold."""
    signer = SigningKey.load(key)
    for _ in range(3):
        released, refused, gate = [], [], threading.Barrier(33)

        def read(released=released, refused=refused, gate=gate):
            with Connection([served.url], signer) as connection:
                gate.wait()
                for _ in range(100):
                    try:
                        released.append(connection.request(order).entry)
                    except Refused as error:
                        assert error.code == "broker.held"  # noqa: PT017 - said by every thread
                        refused.append(error.entry)
                        return

        threads = [threading.Thread(target=read) for _ in range(32)]
        for thread in threads:
            thread.start()
        gate.wait()
        desk("suspend", "host:north-lab/trainer", "--reason", "a race")
        for thread in threads:
            thread.join()
        home = desk.session().factory().open(desk.home)
        with home.log.view() as view:
            (hold,) = active_holds(view, [Subject("host", TRAINER)])
        home.close()
        assert len(refused) == 32
        assert all(place < hold.placed_idx for place in released)
        assert all(place > hold.placed_idx for place in refused)
        desk("inventory", "record", TRAINER, "--environment", desk.folder / "environment")
        desk("lift", "host:north-lab/trainer", "--reason", "all is well")


def test_keys_are_kept_for_their_lease_and_then_asked_for_again(served, key, order):
    now = [0]
    opened = Connection([served.url], SigningKey.load(key))
    real = opened._clock
    opened._clock = lambda: real() + now[0]
    first = opened.keys(order)
    assert opened.keys(order).entry == first.entry, "one key release serves the lease"
    kept = next(iter(opened._kept.values()))
    buffers = list(kept._keys.values())
    assert all(any(one) for one in buffers)
    now[0] = first.until - real() - 4_000_000
    opened._forget_ended()
    assert not opened._kept
    assert not any(any(one) for one in buffers), "what was kept is overwritten"
    now[0] = 0
    assert opened.keys(order).entry > first.entry
    opened.close()


def test_ssh_agent_signs_and_its_key_never_leaves_it(desk, served, key, order, tmp_path):
    if shutil.which("ssh-agent") is None:
        pytest.skip("there is no ssh-agent here")
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        environment = os.environ | {"SSH_AUTH_SOCK": str(path)}
        assert list_agent_keys(path) == ()
        public = SigningKey.load(key).public
        with pytest.raises(NotFound, match="does not hold"):
            AgentKey(path, public)
        subprocess.run(["ssh-add", "-q", key], env=environment, check=True, capture_output=True)
        assert list_agent_keys(path) == (public,)
        with connect(served.url, AgentKey(path, public)) as connection:
            assert connection.request(order).keys
        half = tmp_path / "trainer.pub"
        half.write_text(public.line + "\n")
        out = tmp_path / "by-agent.jsonl"
        shell(
            "--home", desk.home, "open", "quill-works/problems@1", "--host", TRAINER, "--grant",
            desk.folder / "grant.json", "--out", out, "--key", half, "--broker", served.url,
            cwd=tmp_path, SSH_AUTH_SOCK=str(path),
        )  # fmt: skip
        assert out.read_bytes() == (desk.folder / "texts.jsonl").read_bytes()
        signer = AgentKey(path, public)
        signer.public = SigningKey.generate().public
        with pytest.raises(Refused, match="does not sign"):
            signer.sign(b"data")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    with pytest.raises(StorageFailed, match="does not answer"):
        list_agent_keys(path)


def test_an_agents_message_is_taken_in_once(desk, served, key):
    spool = desk.folder / "sent"
    (message,) = desk.sweep("north-lab/trainer", desk.folder / "environment", "2026-11-24T01:00:00Z", spool=spool)
    data = message.read_bytes()
    with connect(served.url, key) as connection:
        signature = sshsig.sign(SigningKey.load(key), data, agent.NAMESPACE)
        first = connection.record_inventory(TRAINER, data, signature)
        assert first.known
        with pytest.raises(VerificationFailed) as caught:
            connection.record_inventory(TRAINER, data, sshsig.sign(SigningKey.generate(), data, agent.NAMESPACE))
        assert caught.value.code == "ledger.sshsig_key"


def test_a_follower_reads_a_published_ledger_over_http(desk, tmp_path):
    with running(desk, "--publish-log") as server:
        followed = desk.json("follow", f"{server.url}/log", tmp_path / "copy", "--once")
        assert followed["size"] > 5
        assert followed["payloads_missing"] == 0


def test_an_address_that_is_not_this_machine_needs_tls(desk):
    assert desk.error("serve", "--listen", "0.0.0.0:0", code=2)["code"] == "serve.plain_http"
    assert (
        desk.error("serve", "--listen", "127.0.0.1:0", "--tls-cert", desk.folder / "x.pem", code=2)["code"]
        == "serve.tls"
    )
    with pytest.raises(InputInvalid) as caught:
        connect("http://192.0.2.1:8443", SigningKey.generate())
    assert caught.value.code == "broker.plain_http"


def test_a_wrong_passphrase_is_said_by_the_verb_itself(desk, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    said = shell(
        "--home",
        desk.home,
        "--passphrase-file",
        wrong,
        "--json",
        "serve",
        "--listen",
        "127.0.0.1:0",
        cwd=tmp_path,
        code=2,
    )
    assert json.loads(said.out)["error"]["code"] == "vault.passphrase_wrong"


def test_nobody_answers(key):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    waits = []
    connection = Connection(
        [f"http://127.0.0.1:{port}"], SigningKey.load(key), patience=Patience(attempts=4), pause=waits.append
    )
    with pytest.raises(StorageFailed, match="cannot be reached"):
        connection.holds(TRAINER)
    assert len(waits) == 3
    assert all(0.05 <= one <= 2.0 for one in waits)


def test_the_next_broker_is_asked_when_one_does_not_answer(served, key):
    with connect("http://127.0.0.1:9", key, also=[served.url]) as connection:
        connection._pause = lambda seconds: None
        assert connection.holds(TRAINER).holds == ()


def test_ending_answers_what_is_on_its_way_and_a_killed_vault_is_said(desk, key, order):
    with running(desk) as server:
        answers, failures, stop = [], [], threading.Event()

        def hammer():
            with connect(server.url, key, patience=Patience(attempts=1)) as connection:
                while not stop.is_set():
                    try:
                        answers.append(connection.request(order).entry)
                    except StorageFailed as error:
                        failures.append(error.code)
                        return

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(answers) < 8 and any(thread.is_alive() for thread in threads):
            threads[0].join(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        stop.set()
        for thread in threads:
            thread.join()
    assert set(failures) <= {"broker.unreachable", "broker.no_answer"}
    assert len(set(answers)) == len(answers)
    with running(desk) as server:
        os.kill(server.vault, signal.SIGKILL)
        assert server.process.wait(60) == 5
    assert desk.json("fsck")


def test_the_answer_type_is_the_documented_one():
    for documented, told in ((KeysAnswer, SealedKeys), (LeaseAnswer, SealedLease), (LeasedAnswer, LeasedKeys)):
        assert documented.__struct_fields__ == told.__struct_fields__
