"""The ranks of a run on one machine, by torchrun's own launcher. Several machines: `torchrun` itself, on each.

The ranks die with this process, however it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``python -m archer ARGUMENTS`` on ``ranks`` processes of this machine.

    Return 0, the exit code of the first that failed, or 130 when stopped. Each says itself what went wrong.
    """
    os.environ["ARCHER_PARENT"] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        run_id=str(os.getpid()), max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "archer", *arguments)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 1
    except SignalException:
        return 130
    return 0
