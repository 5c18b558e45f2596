"""Where decoders are born: a process with everything imported and one thread, which forks when asked.

A decoder must be a process, because only a process can be killed, and it must be cheap, because one video in
ten may kill it. Starting an interpreter with the imports, which are without torch, takes half a second of a
core; a fork of one that has them, 25 milliseconds. The nursery itself is started afresh (never forked from a
worker with its threads, locks and network clients) and does nothing but fork and wait, so its forks are safe.
What it gives up: Linux only.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from gazepack.jobs.decoder import serve

_REQUEST = struct.Struct("!ci")
_REPLY = struct.Struct("!i")
_FORK, _END = b"f", b"e"
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class NurseryError(Exception):
    """The nursery died; start another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Born:
    """A new decoder."""

    pid: int
    connection: Connection
    nursery: "Nursery"

    def end(self) -> int:
        """Kill it if it lives, and return how it ended: a negative signal, or an exit code."""
        self.connection.close()
        try:
            return self.nursery.end(self.pid)
        except NurseryError:
            return -signal.SIGKILL  # the kernel did it when the nursery died


class Nursery:
    """The worker's hold on its nursery."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    "from gazepack.jobs.nursery import main; main()",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is the worker's to hear
            )
        self._control = ours
        self._lock = threading.Lock()

    def fork(self) -> Born:
        """Return a new decoder.

        Raises:
            NurseryError: the nursery is gone.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._ask(_FORK, 0, [theirs.fileno()])
            except NurseryError:
                ours.close()
                raise
        return Born(pid=pid, connection=Connection(ours.detach()), nursery=self)

    def end(self, pid: int) -> int:
        """End a decoder; see `Born.end`.

        Raises:
            NurseryError: the nursery is gone, and the decoder with it.
        """
        return self._ask(_END, pid, [])

    def close(self) -> None:
        """End the nursery and every decoder."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, command: bytes, pid: int, descriptors: list[int]) -> int:
        try:
            with self._lock:
                socket.send_fds(self._control, [_REQUEST.pack(command, pid)], descriptors)
                reply = self._control.recv(_REPLY.size, socket.MSG_WAITALL)
        except OSError as error:
            raise NurseryError from error
        if len(reply) < _REPLY.size:
            raise NurseryError
        value: int = _REPLY.unpack(reply)[0]
        return value


def main() -> None:
    """Fork and wait until the worker is gone; the only argument is the descriptor of the way to it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    alive: set[int] = set()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 1)
        if not request:
            break
        command, pid = _REQUEST.unpack(request)
        if command == _FORK:
            reply = _fork(control, descriptors[0])
            alive.add(reply)
        else:
            alive.discard(pid)
            reply = _end(pid)
        try:
            control.sendall(_REPLY.pack(reply))
        except OSError:
            break
    for pid in alive:
        _end(pid)


def _fork(control: socket.socket, descriptor: int) -> int:
    """Fork a decoder that talks through `descriptor`; return its process id."""
    nursery = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            serve(Connection(descriptor), parent=nursery)
        finally:
            os._exit(0)
    os.close(descriptor)
    return pid


def _end(pid: int) -> int:
    """Kill a child, which may be dead already, and return how it ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
