"""The ranks of a run: processes started by torchrun and joined over gloo, with a deadline on each call.

These calls exchange small Python objects: graded groups, positions, values that must agree. DeepSpeed exchanges the
tensors of updates. If a rank misses a call, the run ends with an error that says where each rank is.
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
STORE_SECONDS = 5.0  # for the store of the ranks' positions, which may be gone too
GRACE_SECONDS = 15.0  # past its deadline, before a call that does not return ends the process


@dataclass
class Ranks:
    """This process among the ranks of a run. Collective calls must come from one thread.

    - ``rank``, ``world``: its number, and the number of ranks
    - ``local``, ``local_world_size``: the same on its machine
    - ``seconds``: deadline of a collective call
    - ``where``: part of the run, for errors
    - ``store``: the ranks' positions; None: not shared
    - ``group``: the gloo group of :meth:`gather` and :meth:`broadcast`
    """

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
        """Whether this is rank 0, the one that writes files."""
        return self.rank == 0

    def gather(self, what: str, item: T) -> list[T]:
        """Return every rank's ``item``, in the order of ranks. Raises RankError."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        with self.deadline(what):
            dist.all_gather_object(items, item, group=self.group)
        return items

    def broadcast(self, what: str, item: T) -> T:
        """Return rank 0's ``item``. Raises RankError."""
        if self.world == 1:
            return item
        items: list[Any] = [item]
        with self.deadline(what):
            dist.broadcast_object_list(items, src=0, group=self.group)
        item_of_main: T = items[0]
        return item_of_main

    def barrier(self, what: str) -> None:
        """Wait until every rank has made this call. Raises RankError."""
        self.gather(what, None)

    def agree(self, what: str, value: object, next_step: str) -> None:
        """Raise UserError with ``next_step`` if a rank has another ``value`` than rank 0."""
        values = self.gather(what, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise UserError(f"rank {rank} has {what} {other!r}, rank 0 has {values[0]!r}; {next_step}")

    @contextmanager
    def deadline(self, what: str) -> Iterator[None]:
        """Give the collective calls within the context a deadline of ``seconds``. Raises RankError.

        A call that neither returns nor raises by then (a lost GPU) cannot be interrupted: the process prints the error
        and exits with code 1.
        """
        if self.world == 1 or self._depth:  # the outer deadline applies
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
        except torch.OutOfMemoryError:  # a RuntimeError too, but this rank's own
            raise
        except RuntimeError as error:  # torch.distributed's error for a lost peer or a timeout
            raise self._missed(what, started, reason(error)) from error
        finally:
            self._depth -= 1
            timer.cancel()
            timer.join()  # it refers to the group, and must not release it last while the process ends
            self.report_position(f"after {what}")

    def report_position(self, what: str) -> None:
        """Store this rank's position for the other ranks' errors."""
        if self.store is not None:
            try:
                self.store.set(f"at/{self.rank}", json.dumps([f"{self.where}: {what}", time.time()]))
            except RuntimeError:  # the store died with rank 0, which the next call reports
                self.store = None

    def positions(self) -> str:
        """Return each rank's position, for an error; the store is read once and not used again."""
        store, self.store = self.store, None
        if store is None:
            return "rank 0, which knows where each stands, does not answer"
        positions = ["unknown"] * self.world

        def read() -> None:
            with suppress(RuntimeError, ValueError):
                for rank in range(self.world):
                    what, since = json.loads(store.get(f"at/{rank}"))
                    positions[rank] = f"{what}, for {time.time() - since:.0f} s"

        # Over a dead link the store's call does not return, not even after its own timeout.
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(STORE_SECONDS)
        return "; ".join(f"rank {rank}: {stands}" for rank, stands in enumerate(positions))

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
    """Join the processes that torchrun started, or return a single rank without torchrun's environment.

    Raises RankError if the others do not join within ``seconds``.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    rank, local = int(environment["RANK"]), int(environment.get("LOCAL_RANK", "0"))
    local_world_size = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    limit = timedelta(seconds=seconds)
    alone = Ranks(rank, world, local, local_world_size, seconds)
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
    ranks = Ranks(rank, world, local, local_world_size, seconds, store=notes, group=group)
    ranks.barrier("joining the other ranks")
    return ranks


def reason(error: RuntimeError) -> str:
    """Return gloo's or NCCL's message without its source location and advice."""
    return re.sub(r"^\[\S+\] ", "", first_line(error)).split(". This is typically")[0]


def leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(ranks: int, arguments: Sequence[str]) -> int:
    """Run ``python -m archer ARGUMENTS`` on ``ranks`` processes of this machine, by torchrun's own launcher.

    They end with this process. For several machines, run ``torchrun`` on each.

    Returns 0, the exit code of the first process that failed, or 130 if interrupted. Each prints its own error.
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
