"""The report in other tools' forms, held against the real libraries and schemas; and the same case, the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema
import msgspec
import pytest
import stix2

from safehold.exposure.formats import csaf_document, ocsf_events, openvex_document, stix_bundle
from safehold.exposure.judgement import judge
from safehold.exposure.report import answer_all, report_json, report_schema
from tests.exposure_kit import BAD, CLEAN, MARCH_1, WINDOW, at

NOW = at("31T12:00")
STATUS = {"held": "affected", "not_held": "not_affected", "unknown": "under_investigation"}


@pytest.fixture
def case(story):
    return story.case(NOW, "PYSEC-2026-2")


def test_the_stix_bundle_is_one(case):
    bundle = stix_bundle(case, judge(case))
    parsed = stix2.parse(json.loads(json.dumps(bundle)), allow_custom=False)
    kinds = [one.type for one in parsed.objects]
    assert {"incident", "indicator", "sighting", "identity", "note", "course-of-action", "report"} <= set(kinds)
    ids = [one.id for one in parsed.objects]
    assert len(ids) == len(set(ids))
    report = next(one for one in parsed.objects if one.type == "report")
    assert set(report.object_refs) == set(ids) - {report.id}
    known = set(ids)
    for one in bundle["objects"]:
        for name in ("sighting_of_ref", "where_sighted_refs", "object_refs"):
            refs = one.get(name, [])
            assert known.issuperset([refs] if isinstance(refs, str) else refs), one["id"]


def test_stix_says_when_it_was_sighted_and_what_nobody_saw(case):
    judgement = judge(case)
    objects = stix_bundle(case, judgement)["objects"]
    (held,) = judgement.hosts_with("held")
    (sighting,) = [one for one in objects if one["type"] == "sighting"]
    assert sighting["first_seen"] == "2026-03-24T11:02:00.000Z"
    assert sighting["last_seen"] == "2026-03-25T09:00:00.000Z"
    assert {int(one["external_id"]) for one in sighting["external_references"]} == set(held.runs[0].entries)
    blind = [one["content"] for one in objects if one["type"] == "note" and one["abstract"] == "not observed"]
    assert any("bright-annotators/desk-1" in text and "unknown" in text for text in blind)


@pytest.mark.parametrize("path", ["site-packages/litellm_init.pth", "it's/a\\b.pth", "x.pth"])
def test_a_file_is_an_indicator_that_parses(history, path):
    history.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T12:00"))
    history.advisory(windows=(("a source", *WINDOW),))
    history.finding(match="hash", path=path)
    case = history.case(NOW)
    parsed = stix2.parse(stix_bundle(case, judge(case)))
    assert [one.type for one in parsed.objects].count("indicator") == 1


def test_openvex_has_a_status_for_each_host_and_says_why(case):
    judgement = judge(case)
    document = openvex_document(case, judgement, "north-lab.example/custody")
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    statuses = {one["products"][0]["@id"].removeprefix("urn:safehold:host:"): one for one in document["statements"]}
    assert {host: one["status"] for host, one in statuses.items()} == {
        presence.host: STATUS[presence.verdict] for presence in judgement.presences
    }
    for one in document["statements"]:  # what OpenVEX asks of each status
        if one["status"] == "affected":
            assert one["action_statement"]
        if one["status"] == "not_affected":
            assert one["justification"] == "component_not_present"
        assert one["status_notes"]


def test_unknown_is_never_not_affected(history):
    history.advisory(windows=(("a source", *WINDOW),))
    history.observe("quill-works/ci-1", CLEAN, MARCH_1, at("20"))
    history.observe("quill-works/ci-1", CLEAN, at("26"), at("30"))
    case = history.case(NOW)
    judgement = judge(case)
    assert openvex_document(case, judgement, "x")["statements"][0]["status"] == "under_investigation"
    assert ocsf_events(case, judgement, "1")[0]["severity"] == "High"


def _csaf(case, tmp_path):
    """Held against the schema and all mandatory tests of the standard, by another program."""
    document = csaf_document(case, judge(case), "lab.example/custody", "1")
    path = tmp_path / f"{document['document']['tracking']['id']}.json"
    path.write_text(json.dumps(document))
    command = [sys.executable, "-m", "csaf", "validate", "--spec-version", "v20", "--no-network", "--quiet", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return document


def test_csaf_holds_by_another_program_and_no_host_is_left_out(case, tmp_path):
    document = _csaf(case, tmp_path)
    (found,) = document["vulnerabilities"]
    said = {product: status for status, products in found["product_status"].items() for product in products}
    for presence in judge(case).presences:
        own = [status for product, status in said.items() if product.endswith(f" on {presence.host}")]
        assert own == ["known_" + STATUS[presence.verdict] if presence.verdict != "unknown" else STATUS["unknown"]]
    assert {one["product_ids"][0] for one in found["remediations"]} == set(found["product_status"]["known_affected"])


def test_csaf_of_a_ledger_without_hosts_or_findings_holds(history, tmp_path):
    document = _csaf(_bare(history), tmp_path)
    assert "product_status" not in document["vulnerabilities"][0] or document["product_tree"]["relationships"]


def test_csaf_says_affected_of_a_host_that_held_it_as_a_file_alone(history, tmp_path):
    """Beside another host that held it by version: no host that held it is called not affected."""
    history.observe("quill-works/ci-1", BAD, at("24T11:00"), at("24T12:00"))
    history.observe("quill-works/ws-1", CLEAN, at("24T11:00"), at("24T12:00"))
    history.advisory(windows=(("a source", *WINDOW),))
    history.finding()
    history.finding(CLEAN, match="path", path="site-packages/litellm_init.pth")
    case = history.case(NOW)
    held = {one.host for one in judge(case).presences if one.verdict == "held"}
    assert held == {"quill-works/ci-1", "quill-works/ws-1"}
    status = _csaf(case, tmp_path)["vulnerabilities"][0]["product_status"]
    assert {product.rpartition(" on ")[2] for product in status["known_affected"]} == held
    safe = {product.rpartition(" on ")[2] for product in status.get("known_not_affected", ())}
    assert not safe & held


def test_csaf_links_to_no_page_that_is_not_there(case):
    document = csaf_document(
        msgspec.structs.replace(case, incident=("PYSEC-2026-2", "own-indicators")), judge(case), "a", "1"
    )
    assert [one["summary"] for one in document["document"]["references"]] == ["Advisory PYSEC-2026-2"]


def test_a_csaf_document_that_is_wrong_is_found(case, tmp_path):
    document = csaf_document(case, judge(case), "lab.example/custody", "1")
    document["vulnerabilities"][0]["product_status"]["fixed"] = ["nothing"]
    path = tmp_path / f"{document['document']['tracking']['id']}.json"
    path.write_text(json.dumps(document))
    command = [sys.executable, "-m", "csaf", "validate", "--spec-version", "v20", "--no-network", "--quiet", str(path)]
    assert subprocess.run(command, capture_output=True, check=False, cwd=tmp_path).returncode == 1


def test_ocsf_events_hold_what_the_class_asks(case):
    judgement = judge(case)
    events = ocsf_events(case, judgement, "0.1.0")
    assert len(events) == len(judgement.presences) + len(judgement.releases)
    for event in events:
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["class_uid"] // 1000 == event["category_uid"] == 2
        assert 1_000_000_000_000 < event["time"] < 10_000_000_000_000  # milliseconds
        assert event["metadata"]["product"]["name"] == "Safehold"
        assert event["finding_info"]["title"]
    exposed = [one for one in events if one["severity"] == "Critical"]
    assert len(exposed) == len(judgement.releases_with("exposed"))
    assert len({one["finding_info"]["uid"] for one in events}) == len(events)


def test_the_same_case_gives_the_same_bytes(case):
    def every() -> Any:
        judgement = judge(case)
        return stix_bundle(case, judgement), openvex_document(case, judgement, "x"), ocsf_events(case, judgement, "1")

    assert every() == every()


def test_the_report_fits_its_schema_and_the_schema_can_fail(story, history):
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for case in (story.case(NOW, "PYSEC-2026-2"), _bare(history)):
        document = json.loads(json.dumps(report_json(answer_all(case))))
        jsonschema.validate(document, schema)
        for name in schema["required"]:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({key: value for key, value in document.items() if key != name}, schema)
        document["hosts"][0]["verdict"] = "fine"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, schema)


def _bare(history):
    history.advisory(windows=())
    return history.case(NOW)
