"""A group of processes, each a rank, as `torchrun` starts them.

A script has a function `train(rank, world_size, *arguments)`, whose arguments are strings. Run as a program,
this forks a process for each rank after the script's imports, which take longest, and before anything has a
thread.
"""

import importlib.util
import multiprocessing
import subprocess
import sys
from pathlib import Path


def run_ranks(script: Path, world_size: int, *arguments: object) -> None:
    """Run a script's `train` in a process for each rank, all of which must end well."""
    command = [sys.executable, __file__, str(script), str(world_size), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def main(script: str, world_size: int, arguments: list[str]) -> int:
    """Run all ranks and return the number of those that failed."""
    spec = importlib.util.spec_from_file_location("script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=module.train, args=(rank, world_size, *arguments))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return sum(process.exitcode != 0 for process in ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
