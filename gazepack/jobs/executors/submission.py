"""A run as a job of a Ray cluster: gazepack itself goes along, and the job's end is the command's end.

What goes along is the code of this installation, or that of a wheel; never its dependencies, which the
cluster's machines must have: a job that installs PyTorch everywhere pays for it while it waits. The job is one
`gazepack pack` on the head, so whatever is said of a driver that dies holds for it too.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import socket
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import gazepack
from gazepack.errors import UsageError

PROGRAM = "from gazepack.cli.main import main; main()"
EXIT_CODES = frozenset((0, 1, 2, 3, 4, 130))
"""What `gazepack pack` may leave with; anything else was not its own decision."""
INTERRUPTED = 130
MAX_WHEEL_BYTES = 400 * 2**20
"""Unpacked; Ray itself takes 500 MiB."""
POLL_SECONDS = 2.0
AGENT_SECONDS = 60.0
"""How long a cluster that answers may take until it takes jobs."""
_ANSWER_SECONDS = 10.0
_WHEEL = re.compile(r"gazepack-[A-Za-z0-9_.+!]+(-\d[A-Za-z0-9_.]*)?-py3-none-any\.whl")


def ship(folder: Path, *, wheel: Path | None = None) -> None:
    """Put the code that is to run into an empty folder.

    Args:
        folder: which becomes the job's working directory.
        wheel: of gazepack; the code that is running now if `None`.

    Raises:
        UsageError: it is not a wheel of gazepack.
    """
    if wheel is None:
        package = Path(gazepack.__file__).parent
        shutil.copytree(package, folder / "gazepack", ignore=shutil.ignore_patterns("__pycache__"))
        return
    if not _WHEEL.fullmatch(wheel.name):
        raise UsageError(
            f"--wheel {wheel} is not called like a wheel of gazepack",
            remedy="give a file such as gazepack-1.2.0-py3-none-any.whl, from `pip wheel --no-deps`",
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            _check_members(wheel, archive.infolist())
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"--wheel {wheel} cannot be read ({error})") from None


def _check_members(wheel: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that holds anything but gazepack, or far too much of it.

    Raises:
        UsageError: it does.
    """
    for member in members:
        path = PurePosixPath(member.filename)
        ours = re.fullmatch(r"gazepack(-[A-Za-z0-9_.+!]+\.dist-info)?", path.parts[0])
        if not ours or ".." in path.parts or "\\" in member.filename:
            raise UsageError(f"--wheel {wheel} holds {member.filename!r}, which is not gazepack's")
    if sum(member.file_size for member in members) > MAX_WHEEL_BYTES:
        raise UsageError(f"--wheel {wheel} unpacks to more than {MAX_WHEEL_BYTES:,} bytes")
    if "gazepack/cli/main.py" not in {member.filename for member in members}:
        raise UsageError(f"--wheel {wheel} holds no program")


def entrypoint(arguments: Sequence[str]) -> str:
    """Return the line that a shell of the head runs; every argument is quoted for it."""
    return shlex.join(["python", "-c", PROGRAM, *arguments])


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that a cluster has taken."""

    client: JobSubmissionClient
    address: str
    """Of the dashboard."""
    id: str
    """By which Ray knows it."""

    def line(self, command: str) -> str:
        """Return the line with which a user does something to the job: `logs --follow`, `stop`, ..."""
        return f"ray job {command} --address {self.address} {self.id}"

    def wait(self, say: Callable[[str], None]) -> int:
        """Pass on what the job prints until it ends.

        Returns:
            Its exit code, which is one of gazepack's.

        Raises:
            UsageError: it could not be started, was killed, or the cluster does not answer any more.
        """
        try:
            asyncio.run(self._listen(say))
        except (RuntimeError, OSError, requests.RequestException):
            say("the line to the job is broken; waiting for its end\n")
        while not (details := self._details()).status.is_terminal():
            time.sleep(POLL_SECONDS)
        if details.status is JobStatus.STOPPED:
            return INTERRUPTED
        code = 0 if details.status is JobStatus.SUCCEEDED else details.driver_exit_code
        if code in EXIT_CODES:
            return int(code)
        raise UsageError(
            f"job {self.id} ended without gazepack's doing ({_first_line(details.message)})",
            remedy=f"look at `{self.line('logs')}`, then submit the same again: it goes on",
        )

    async def _listen(self, say: Callable[[str], None]) -> None:
        async for lines in self.client.tail_job_logs(self.id):
            say(lines)

    def _details(self) -> JobDetails:
        """Ask how the job is."""
        try:
            return self.client.get_job_info(self.id)
        except (RuntimeError, OSError) as error:
            raise UsageError(
                f"the cluster at {self.address} does not answer any more ({_first_line(error)})",
                remedy=f"the job may go on: `{self.line('status')}`",
            ) from error


def submit(
    address: str, *, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Submission:
    """Hand a job to a cluster.

    Args:
        address: of its dashboard, such as `http://head:8265`.
        arguments: of gazepack.
        folder: its working directory, with the code; see `ship`.
        environment: variables for the driver and all workers. Whoever reaches the dashboard can read them.

    Raises:
        UsageError: no cluster takes it.
    """
    _check_answer(address)
    runtime_env = {"working_dir": str(folder), "env_vars": dict(environment)}
    try:
        client = JobSubmissionClient(address)
        taken = _submitted(client, entrypoint(arguments), runtime_env)
    except (RuntimeError, OSError, json.JSONDecodeError) as error:
        raise _no_answer(address, error) from error
    return Submission(client=client, address=address, id=taken)


def _submitted(client: JobSubmissionClient, command: str, runtime_env: dict[str, Any]) -> str:
    """Hand a job over; a cluster that has just started answers before its agent, which runs jobs, is there."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            taken: str = client.submit_job(entrypoint=command, runtime_env=runtime_env)
            return taken
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def values_of(names: Sequence[str]) -> dict[str, str]:
    """Return environment variables of this process by their names.

    Raises:
        UsageError: one is not set, or a value was given where a name belongs.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            shown = name.partition("=")[0]
            raise UsageError(
                f"--env takes the name of a variable, not {shown + '=...' if '=' in name else name!r}",
                remedy="set it here and name it: a value on the command line is seen by others",
            )
        if name not in os.environ:
            raise UsageError(f"--env {name}: it is not set here")
    return {name: os.environ[name] for name in names}


def _check_answer(address: str) -> None:
    """Refuse an address where nobody listens, before a client waits for it.

    Raises:
        UsageError: nobody does.
    """
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is not an http address")
        socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> UsageError:
    return UsageError(
        f"no Ray cluster takes jobs at {address!r} ({_first_line(error)})",
        remedy="give the address of its dashboard, such as http://HEAD:8265; it needs ray[default]",
    )


def _first_line(said: object) -> str:
    """Return the first line of what somebody said, or that it was nothing."""
    return next(iter(str(said or "").strip().splitlines()), "no reason given")
