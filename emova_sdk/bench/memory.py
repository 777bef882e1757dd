"""``python -m emova_sdk.bench.memory``: run the candidate on stdin once, and print how much memory this process took."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from emova_sdk.bench.candidates import Candidate


def peak_rss_bytes() -> int | None:
    """Most memory this process has held so far, in bytes; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _tensor_bytes() -> int | None:
    """Bytes of all tensors of torch, storages that are shared counted once; None where torch was not needed."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    tensors = [one for one in gc.get_objects() if type(one) in {torch.Tensor, torch.nn.Parameter}]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return sum(storages.values())


def main() -> None:
    """Run."""
    run, close = TypeAdapter(Candidate).validate_json(sys.stdin.read()).open()
    run()
    print(json.dumps({"peak_rss_bytes": peak_rss_bytes(), "tensor_bytes": _tensor_bytes()}))  # noqa: T201 - its answer
    close()


if __name__ == "__main__":
    main()
