"""A private fork server, whose workers never import the caller's ``__main__``. Not for Windows."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import context, forkserver, popen_forkserver, reduction, util
from multiprocessing.process import BaseProcess
from typing import Any


class CleanContext(context.ForkServerContext):
    """A multiprocessing context with a fork server of its own, independent of the caller's."""

    def __init__(self, preload: Sequence[str]) -> None:
        super().__init__()
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(list(preload))

    def Process(self, **options: Any) -> BaseProcess:  # type: ignore[override]
        return _Worker(self._server, **options)

    def stop(self) -> None:
        """Kill the server; asked to end, it would wait for every process that inherited its pipe."""
        pid = self._server._forkserver_pid  # type: ignore[attr-defined]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._server._stop()  # type: ignore[attr-defined]


class _Worker(context.ForkServerProcess):
    def __init__(self, server: forkserver.ForkServer, **options: Any) -> None:
        super().__init__(**options)
        self.server: forkserver.ForkServer | None = server

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"server": None}

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """Launches as the parent class does, but on the worker's own server and without a ``__main__``."""

    def _launch(self, process_obj: Any) -> None:
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(
                {"name": process_obj.name, "sys_path": [os.path.abspath(folder) for folder in sys.path]},
                message,
            )
            reduction.dump(process_obj, message)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write = process_obj.server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        kept_open = os.dup(write)  # its end of file tells the worker that the host is gone
        self.finalizer = util.Finalize(self, _close, (kept_open, self.sentinel))
        with open(write, "wb") as pipe:
            pipe.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
