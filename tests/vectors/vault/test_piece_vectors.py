"""The public cases of the digests of pieces: the file is what the source says, and ``hashlib`` alone agrees."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tools.vectors_chunks import plaintext
from tools.vectors_pieces import FILE, render

TEXT = (Path(__file__).parents[3] / FILE).read_text()


def test_the_file_is_what_the_source_says():
    assert render() == TEXT


def test_an_own_computation_agrees():
    document = json.loads(TEXT)
    assert len(document["cases"]) == 7
    for case in document["cases"]:
        body, step = plaintext(case["size"]), document["piece"]
        digests = [hashlib.sha256(body[at : at + step]).hexdigest() for at in range(0, len(body), step)]
        assert case["digests"] == "".join(digests)
