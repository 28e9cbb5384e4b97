"""The processes of one run: started by torchrun, joined over gloo, each call with a deadline.

What travels here is small and made of Python objects: graded groups, positions, agreement. Tensors of the update
travel by DeepSpeed. A call that another rank does not come to ends the run and says where each rank stands; nothing
waits in silence.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from archer.errors import RankError, UserError, first_line

T = TypeVar("T")
STORE_SECONDS = 5.0  # for the store that holds where each rank stands: it may be gone too
GRACE_SECONDS = 15.0  # for a call that ought to have ended by its own deadline, before the process is ended


@dataclass
class Ranks:
    """``rank`` of ``world`` processes, the ``local``-th of ``beside`` on its machine. Not for several threads."""

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world_size: int = 1
    seconds: float = 1800.0
    where: str = "start"
    store: Store | None = None
    group: Any = None
    _depth: int = field(default=0, repr=False)

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def gather(self, what: str, item: T) -> list[T]:
        """Return every rank's ``item``, in the order of ranks. Raises RankError."""
        if self.world == 1:
            return [item]
        found: list[Any] = [None] * self.world
        with self.deadline(what):
            dist.all_gather_object(found, item, group=self.group)
        return found

    def broadcast(self, what: str, item: T) -> T:
        """Return rank 0's ``item``. Raises RankError."""
        if self.world == 1:
            return item
        found: list[Any] = [item]
        with self.deadline(what):
            dist.broadcast_object_list(found, src=0, group=self.group)
        answer: T = found[0]
        return answer

    def barrier(self, what: str) -> None:
        """Wait until every rank has come here. Raises RankError."""
        self.gather(what, None)

    def agree(self, what: str, value: object, next_step: str) -> None:
        """Raise UserError where a rank has another ``value`` than rank 0."""
        values = self.gather(what, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise UserError(f"rank {rank} has {what} {other!r}, rank 0 has {values[0]!r}; {next_step}")

    @contextmanager
    def deadline(self, what: str) -> Iterator[None]:
        """Bound collective calls made inside, ours or a library's, by ``seconds``. Raises RankError.

        A call that neither returns nor raises by then (a lost GPU) cannot be raised from: the process says where it
        stands and ends with code 1.
        """
        if self.world == 1 or self._depth:  # the outer one counts
            yield
            return
        self.report_position(what)
        started = time.monotonic()
        timer = threading.Timer(self.seconds + GRACE_SECONDS, self._give_up, [what, started])
        timer.daemon = True
        timer.start()
        self._depth += 1
        try:
            yield
        except torch.OutOfMemoryError:  # a RuntimeError too, and no other rank's fault
            raise
        except RuntimeError as error:  # what torch.distributed raises for a lost peer and for its own timeout
            raise self._missed(what, started, reason(error)) from error
        finally:
            self._depth -= 1
            timer.cancel()
            timer.join()  # it holds the group, and must not be the one that lets go of it while the process ends
            self.report_position(f"after {what}")

    def report_position(self, what: str) -> None:
        """Tell the other ranks where this one stands."""
        if self.store is not None:
            try:
                self.store.set(f"at/{self.rank}", json.dumps([f"{self.where}: {what}", time.time()]))
            except RuntimeError:  # the store died with rank 0: the call itself will say so
                self.store = None

    def positions(self) -> str:
        """Return where each rank said it stands, for an error; the store is asked once, and then left alone."""
        store, self.store = self.store, None
        if store is None:
            return "rank 0, which knows where each stands, does not answer"
        told = ["unknown"] * self.world

        def ask() -> None:
            with suppress(RuntimeError, ValueError):
                for rank in range(self.world):
                    what, since = json.loads(store.get(f"at/{rank}"))
                    told[rank] = f"{what}, for {time.time() - since:.0f} s"

        # Over a dead link the store does not come back, not even past its own timeout.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(STORE_SECONDS)
        return "; ".join(f"rank {rank}: {stands}" for rank, stands in enumerate(told))

    def _missed(self, what: str, started: float, why: str) -> RankError:
        return RankError(
            f"rank {self.rank} of {self.world}: {self.where}: {what}: failed after {time.monotonic() - started:.1f} s "
            f"of at most {self.seconds:.0f} s ({why}). Where each stands: {self.positions()}. The same command goes "
            "on from the last checkpoint"
        )

    def _give_up(self, what: str, started: float) -> None:
        error = self._missed(what, started, "the call does not return")
        os.write(2, f"archer: {error}\n".encode())
        os._exit(1)


def join_ranks(seconds: float, stack: ExitStack, environment: Mapping[str, str] = os.environ) -> Ranks:
    """Join the processes that torchrun started; without its environment a run of one process.

    Raises RankError when the others do not come within ``seconds``.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    rank, local = int(environment["RANK"]), int(environment.get("LOCAL_RANK", "0"))
    beside = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    limit = timedelta(seconds=seconds)
    alone = Ranks(rank, world, local, beside, seconds)
    started = time.monotonic()
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(local)
        store, rank, world = next(rendezvous("env://", rank, world, timeout=limit))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=world, timeout=limit)
        stack.callback(leave)
        group = dist.new_group(backend="gloo", timeout=limit)
    except RuntimeError as error:
        raise alone._missed("joining the other ranks", started, reason(error)) from error
    notes = PrefixStore("archer", store)
    notes.set_timeout(timedelta(seconds=STORE_SECONDS))
    ranks = Ranks(rank, world, local, beside, seconds, store=notes, group=group)
    ranks.barrier("joining the other ranks")
    return ranks


def reason(error: RuntimeError) -> str:
    """Return what gloo or NCCL says, less the place in its source and its advice."""
    return re.sub(r"^\[\S+\] ", "", first_line(error)).split(". This is typically")[0]


def leave() -> None:
    """Leave the group; a group that broke is left as it is."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``python -m archer ARGUMENTS`` on ``ranks`` processes of this machine, by torchrun's own launcher.

    They die with this process, however it ends. Several machines: ``torchrun`` itself, on each.

    Return 0, the exit code of the first that failed, or 130 when stopped. Each says itself what went wrong.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
