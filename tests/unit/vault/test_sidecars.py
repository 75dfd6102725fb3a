"""Sidecars: bound by the manifest, valid by the libraries of their formats, and silent about every value."""

from __future__ import annotations

import json
import shutil
import subprocess

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from safehold.model.errors import VerificationFailed
from safehold.model.statements import SubjectCount
from safehold.vault.sidecars import SIDECARS, bound, make_sidecars
from safehold.vault.verify import verify_release
from tests.readers_kit import GROUPS, make_records
from tests.vault_kit import SUPPLIER, outcome, seal, write_lines
from tools import sidecar_peer

MARCH = 1_774_310_400_000_000  # 24 March 2026, 00:00 UTC
PEOPLE = (SubjectCount(category="experts", jurisdiction="DE", count=12),)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecars")
    source = write_lines(folder / "records.jsonl", make_records(100))
    more = {"groups": GROUPS, "people": PEOPLE, "sealed_at": MARCH, "order": "PO-7"}
    return seal(source, folder / "release", **more)


def document(sealed, name):
    return json.loads((sealed.folder / name).read_bytes())


def test_all_are_written_and_bound(sealed):
    assert tuple(one.name for one in sealed.manifest.sidecars) == SIDECARS
    assert sealed.manifest.sidecars == bound({name: (sealed.folder / name).read_bytes() for name in SIDECARS})
    verify_release(sealed.folder, SUPPLIER.public)


@pytest.mark.parametrize("name", SIDECARS)
def test_one_that_was_changed_is_refused(sealed, tmp_path, name):
    copy = shutil.copytree(sealed.folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(data)
    _, code = outcome(lambda: verify_release(copy, SUPPLIER.public))
    assert code == "vault.sidecar_altered"
    (copy / name).unlink()
    with pytest.raises(VerificationFailed):
        verify_release(copy, SUPPLIER.public)


def test_the_same_release_is_described_the_same(sealed):
    bare = msgspec.structs.replace(sealed.manifest, sidecars=())
    assert make_sidecars(bare, MARCH) == {name: (sealed.folder / name).read_bytes() for name in SIDECARS}
    assert set(make_sidecars(bare, None)) == set(SIDECARS) - {"openlineage.json"}


def test_no_value_stands_in_any(sealed):
    for name in SIDECARS:
        assert b"secret" not in (sealed.folder / name).read_bytes()


def test_cyclonedx_by_its_own_library(sealed):
    text = (sealed.folder / "cyclonedx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (component,) = json.loads(text)["components"]
    assert component["type"] == "data"
    assert {one["name"]: one["hashes"][0]["content"] for one in component["components"]} == {
        part.file: part.sha256.removeprefix("sha256:") for part in sealed.manifest.parts
    }
    assert component["data"][0]["sensitiveData"] == ["12 people: experts, DE"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"dataset"', '"datasett"')) is not None


def test_the_22_elements_of_provenance(sealed):
    found = document(sealed, "provenance.json")
    source, provenance, use = found["source"], found["provenance"], found["use"]
    assert (len(source), len(provenance), len(use)) == (5, 8, 10)
    assert found["standardsVersionUsed"] == "1.0.0"
    assert source["datasetIssuer"] == "quill-works"
    assert provenance["datasetIssueDate"] == "2026-03-24"
    assert provenance["method"] is None  # not known, and said so
    assert use["intendedDataUse"] == ["training"]


_CROISSANT = """
import json, logging, sys
import mlcroissant
dataset = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = dataset.metadata.issues
known = dataset.metadata
print(json.dumps({
    "errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "name": known.name,
    "files": {one.name: one.sha256 for one in known.file_objects},
    "fields": {one.name: [field.name for field in one.fields] for one in known.record_sets},
    "people": known.personal_sensitive_information, "uses": known.data_use_cases,
}))
"""
_OPENLINEAGE = """
import json, sys
from openlineage.client import event_v2, serde
from openlineage.client.generated import schema_dataset, output_statistics_output_dataset as statistics
raw = json.load(open(sys.argv[1]))
def plain(one): return {key: value for key, value in one.items() if not key.startswith("_")}
def members(fields):
    return [schema_dataset.SchemaDatasetFacetFields(**one | {"fields": members(one.get("fields", []))}) for one in fields]
(out,) = raw["outputs"]
schema = schema_dataset.SchemaDatasetFacet(fields=members(out["facets"]["schema"]["fields"]))
counts = statistics.OutputStatisticsOutputDatasetFacet(**plain(out["outputFacets"]["outputStatistics"]))
event = event_v2.RunEvent(
    eventType=event_v2.RunState(raw["eventType"]), eventTime=raw["eventTime"], producer=raw["producer"],
    run=event_v2.Run(raw["run"]["runId"]), job=event_v2.Job(raw["job"]["namespace"], raw["job"]["name"]),
    inputs=[event_v2.InputDataset(one["namespace"], one["name"]) for one in raw["inputs"]],
    outputs=[event_v2.OutputDataset(out["namespace"], out["name"], facets={"schema": schema},
        outputFacets={"outputStatistics": counts})],
)
made = json.loads(serde.Serde.to_json(event))
print(json.dumps({"schemaURL": made["schemaURL"], "rows": made["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"],
    "keys": sorted(made), "schema": made["outputs"][0]["facets"]["schema"]["_schemaURL"]}))
"""


def by_peer(script, path):
    python = sidecar_peer.python()
    if python is None:
        pytest.skip("the libraries are not here: python -m tools.sidecar_peer")
    done = subprocess.run([python, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_croissant_by_its_own_library(sealed):
    found = by_peer(_CROISSANT, sealed.folder / "croissant.jsonld")
    assert found["errors"] == []
    assert all("citeAs" in warning for warning in found["warnings"])  # there is nothing to cite
    assert found["files"] == {part.file: part.sha256.removeprefix("sha256:") for part in sealed.manifest.parts}
    assert found["fields"] == {"records-text": ["id", "text"], "records-chats": ["chat"]}
    assert found["people"] == ["12 people: experts, DE"]
    assert found["uses"] == ["training"]


def test_openlineage_by_its_own_library(sealed):
    raw = document(sealed, "openlineage.json")
    found = by_peer(_OPENLINEAGE, sealed.folder / "openlineage.json")
    assert found["rows"] == 100
    assert set(raw) == set(found["keys"])
    assert raw["schemaURL"] == found["schemaURL"]
    assert raw["outputs"][0]["facets"]["schema"]["_schemaURL"] == found["schema"]
    assert raw["eventTime"] == "2026-03-24T00:00:00Z"
