"""Fuzz the readers with atheris, guided by the coverage of their code.

    pip install atheris
    python tests/fuzz/run.py all --seconds 60
    python tests/fuzz/run.py index --seconds 600
    python tests/fuzz/run.py index crash-0123      # runs what was found again

`all` takes every target in turn, in processes of its own, and leaves with 1 if one of them found something; the
input that did lies in the folder of `--found`. Bounds: 10 seconds an input, 256 MiB more than at the start.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_BYTES = 256 * 2**20
"""What a process may grow by, whatever it is given."""
SECONDS_EACH = 10
"""What one input may take."""
MOST_INPUT_BYTES = 16384
"""Of one input."""


def main() -> int:
    """Fuzz one target, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("input", nargs="?", type=Path, help="run this file only")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    if arguments.target != "all":
        fuzz(arguments.target, arguments.input, arguments.seconds, arguments.found)
    import targets

    codes = {}
    for name in targets.TARGETS:
        options = ["--seconds", str(arguments.seconds), "--found", str(arguments.found)]
        codes[name] = subprocess.run(
            [sys.executable, __file__, name, *options], check=False
        ).returncode
    bad = [name for name, code in codes.items() if code]
    print(f"{len(codes)} targets fuzzed; found something: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


def fuzz(name: str, one: Path | None, seconds: int, found: Path) -> None:
    """Fuzz a target and end the process, as libFuzzer does."""
    import resource

    import atheris

    with atheris.instrument_imports(include=["gazepack.formats", "gazepack.jobs.manifest"]):
        import targets
    if one is not None:
        targets.run_once(name, one.read_bytes())
        sys.exit(0)
    corpus = Path(tempfile.mkdtemp(prefix=f"gazepack-fuzz-{name}-"))
    for number, seed in enumerate(targets.seeds(name)):
        (corpus / f"seed{number}").write_bytes(seed)
        targets.run_once(name, seed)  # what is imported late is imported now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def test_one_input(data: bytes) -> None:
        targets.run_once(name, data)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if grown > MOST_BYTES:
            raise MemoryError(f"{grown} bytes more than at the start")

    options = [f"-max_total_time={seconds}", f"-timeout={SECONDS_EACH}", "-print_final_stats=1"]
    options += [f"-max_len={MOST_INPUT_BYTES}", f"-artifact_prefix={found}/{name}-", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
