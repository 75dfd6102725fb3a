"""One rank of a training job, with real torch: run by test_readers, a process a rank.

Reads the release that its parent has pickled (no keys in it: it asks its parent), joins torch.distributed, takes steps
through a DataLoader with workers, and writes what it saw and where it stands.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path


def main() -> None:
    folder, rank, ranks, workers, steps, batch = Path(sys.argv[1]), *map(int, sys.argv[2:7])
    state, out = sys.argv[7], Path(sys.argv[8])
    start = sys.argv[10]
    sys.path.append(sys.argv[9])
    import torch.distributed

    from safehold.model.errors import SafeholdError
    from safehold.readers import OrderRule
    from safehold.readers.torch_reader import SealedLoader, TorchPlan

    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{out.parent}/join", rank=rank, world_size=ranks
        )
    release = pickle.loads((folder / "handle").read_bytes())
    rule = OrderRule(seed=7, lanes=4, chunk=5, window=80)
    loader = SealedLoader(release, TorchPlan(rule=rule, batch=batch, columns=("id",)), workers)
    if workers:
        loader.options["multiprocessing_context"] = start
    if state != "-":
        loader.load_state_dict(json.loads(Path(state).read_text()))
    seen = []
    stopped = ""
    try:
        for number, records in enumerate(loader, 1):
            seen.append([record["id"] for record in records])
            if number == steps:
                break
    except SafeholdError as error:
        stopped = f"{type(error).__name__} {error.code} {len(getattr(error, 'opened', ()))}"
    out.write_text(
        json.dumps({"seen": seen, "state": loader.state_dict(), "stopped": stopped, "torch": torch.__version__})
    )
    if ranks > 1:
        torch.distributed.barrier()


if __name__ == "__main__":
    main()
