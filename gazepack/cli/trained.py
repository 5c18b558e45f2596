"""What `label`, `train` and `evaluate` share: their videos and a line of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gazepack.jobs import Segment
    from gazepack.training.clips import Video


def as_video(segment: Segment) -> Video:
    """Return what training reads of a listed segment."""
    from gazepack.training.clips import Video

    return Video(
        uri=segment.uri,
        start_seconds=segment.start_seconds or 0.0,
        end_seconds=segment.end_seconds,
    )


def listed_videos(sources: Sequence[str]) -> list[Video]:
    """List files, folders, globs and manifests; what their names alone rule out is left out.

    Raises:
        SourceError: there is no video.
    """
    from gazepack.errors import SourceError
    from gazepack.jobs import Segment, list_sources

    segments = [Segment.from_row(row) for row in list_sources(sources).to_pylist()]
    videos = [as_video(segment) for segment in segments if segment.problem is None]
    if not videos:
        raise SourceError(f"no video in {', '.join(sources)} can be read by its name")
    return videos


def report_line(step: int, progress: float, numbers: dict[str, float]) -> None:
    """Print a line of progress to stderr."""
    told = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
    click.echo(f"step {step} ({progress:.1%}): {told}", err=True)
