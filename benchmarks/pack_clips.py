"""Pack real clips, verify them against their sources, and tabulate every one.

    python benchmarks/pack_clips.py CLIPS/val CLIPS/holdout CLIPS/odd --work DIR --table docs/results/clips.md

Each folder or manifest is packed with `gazepack pack --min-psnr 30` into its own dataset below DIR and
checked with `gazepack verify --source`; the table has a row for each clip: tokens, dense tokens, reduction,
bytes against source bytes, the worst frame's PSNR, or why it could not be packed. Options after `--` go to
`gazepack pack`.
"""

import argparse
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gazepack import __version__
from gazepack.formats import DatasetDirectory

HEAD = "| clip | frames | tokens | dense | reduction | bytes | of source | min PSNR |"


def main() -> int:
    """Pack, verify, tabulate; leave with 1 if a dataset does not verify."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    arguments, options = parser.parse_known_args()
    options = [option for option in options if option != "--"] or ["--min-psnr", "30"]
    sections, clean = [], True
    for folder in arguments.folders:
        out = arguments.work / folder.stem
        gazepack("pack", str(folder), "--out", str(out), "--selector", "greedy", *options)
        verified = gazepack("verify", str(out), "--source", str(folder)) == 0
        clean &= verified
        sections.append(section(folder.stem, DatasetDirectory.open(str(out)), verified))
    names = " ".join(folder.stem for folder in arguments.folders)
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    arguments.table.write_text(
        f"# Real clips, packed: {names}\n\n"
        f"`gazepack pack FOLDER --selector greedy {' '.join(options)}`, gazepack {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}.\n"
        "Made by `benchmarks/pack_clips.py`.\n\n" + "\n\n".join(sections) + "\n"
    )
    return 0 if clean else 1


def gazepack(*arguments: str) -> int:
    """Run the program; return its exit code."""
    command = "import sys; from gazepack.cli.main import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", command, *arguments], check=False).returncode


def section(name: str, directory: DatasetDirectory, verified: bool) -> str:
    """Return the table of one folder."""
    rows = directory.read_index().to_pylist()
    failures = directory.failures().to_pylist()
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        clips.setdefault(row["id"], []).append(row)
    lines = [f"## {name}", "", HEAD, "|" + " --- |" * 8]
    lines += [line(clip, windows) for clip, windows in clips.items()]
    if rows:
        lines.append(line("**all**", rows))
    state = "clean" if verified else "NOT clean"
    frames = sum(row["frames"] for row in rows)
    lines += ["", f"{frames} frames; `verify --source`: {state}."]
    if failures:
        lines += ["", "| not packed | stage | why |", "| --- | --- | --- |"]
        for row in failures:
            why = row["message"].replace(row["uri"], row["id"]).replace("|", "\\|")
            lines.append(f"| {row['id']} | {row['stage']} | {why} |")
    return "\n".join(lines)


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the row of one clip, whose samples are `rows`."""
    tokens, dense = sum(r["tokens"] for r in rows), sum(r["dense_tokens"] for r in rows)
    packed = sum(r["bytes"] for r in rows)
    source = sum(r["source_bytes"] for r in rows if r["window"] == 0)
    cells = (
        name,
        f"{sum(r['frames'] for r in rows)}",
        f"{tokens:,}",
        f"{dense:,}",
        f"{dense / tokens:.1f}x",
        f"{packed:,}",
        f"{packed / source:.2f}" if source else "-",
        f"{min(r['min_psnr'] for r in rows):.2f}",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
