"""Write ``vectors/vault/rows.json``: cases for whoever makes or checks row digests in another language.

python -m tools.vectors_rows            says whether the file is what the source says
python -m tools.vectors_rows --write    writes it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from safehold.assembly.row_tree import row_path, row_root
from safehold.vault.row_digests import row_entries, row_salts
from safehold.vault.row_form import rows_of

__all__ = ["FILE", "main", "render"]

FILE = "vectors/vault/rows.json"
_KEY: Final = bytes(range(32))
_AAD: Final = (
    '{"aad":"safehold part v1","dataset":"quill-works/sums","group":"text","part":0,"party":"quill-works","version":1}'
)
_SCHEMA: Final = pa.schema(
    {
        "id": pa.int64(),
        "text": pa.string(),
        "score": pa.float64(),
        "good": pa.bool_(),
        "turns": pa.list_(pa.struct({"role": pa.string(), "n": pa.int64()})),
    }
)
_ROWS: Final[list[dict[str, Any]]] = [
    {"id": 1, "text": "2 + 2?", "score": 0.5, "good": True, "turns": []},
    {"id": -7, "text": "", "score": None, "good": False, "turns": [{"role": "user", "n": 1}, None]},
    {"id": None, "text": "é 中", "score": -0.0, "good": None, "turns": None},
    {"id": 2**63 - 1, "text": None, "score": 1e300, "good": True, "turns": [{"role": None, "n": None}]},
    {"id": 0, "text": "\u0000", "score": 3.0, "good": True, "turns": [{"role": "a", "n": 0}]},
]
_BROKEN: Final = {
    "cut in a number": "03000000",
    "a text longer than what follows": "03000000000000000105ffffffff61",
    "no value for the last column": "00000000",
    "a tag of another type": "0500000000",
    "more than the columns hold": "000000000000",
    "a list longer than what follows": "0000000007ffffffff00",
}


def render() -> str:
    """The file's text."""
    rows = list(rows_of(pa.Table.from_pylist(_ROWS, _SCHEMA).to_batches(), _SCHEMA.names))
    entries, salt = row_entries(rows, _KEY, _AAD), row_salts(_KEY, _AAD)
    document = {
        "about": "row digests of docs/spec/release.md; bytes are in hex, columns in this order",
        "columns": {"id": "int64", "text": "string", "score": "double", "good": "bool", "turns": "list of struct(role string, n int64)"},
        "key": _KEY.hex(),
        "aad": _AAD,
        "rows": [
            {
                "values": values,
                "bytes": row.hex(),
                "salt": salt(place).hex(),
                "entry": entries[place].hex(),
                "path": [node.hex() for node in row_path(entries, place)],
            }
            for place, (values, row) in enumerate(zip(_ROWS, rows, strict=True))
        ],
        "rows_root": row_root(entries),
        "refused": [{"name": name, "bytes": text, "code": "vault.row_form"} for name, text in _BROKEN.items()],
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file, or say whether it is as it must be."""
    path = Path(__file__).parents[1] / FILE
    if "--write" in arguments:
        path.write_text(render())
        return 0
    if path.read_text() != render():
        print(f"{FILE} is not what the source says: python -m tools.vectors_rows --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
