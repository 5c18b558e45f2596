"""Messages between a worker and its decoders: JSON, and frames as raw bytes behind it.

A decoder reads files that nobody trusts, so what it says is parsed as data and never unpickled.
"""

import json
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from gazepack.errors import VideoError
from gazepack.geometry import Grid
from gazepack.jobs.clips import Clip, Item, Measured, SegmentEnd, SegmentStart
from gazepack.jobs.frames import View
from gazepack.video import Cut, Part, VideoInfo


class DecoderBugError(RuntimeError):
    """A decoder met an error that is nobody's video's fault; the message is its traceback."""


def send_json(connection: Connection, value: dict[str, Any]) -> None:
    """Send one JSON object."""
    connection.send_bytes(json.dumps(value).encode())


def receive_json(connection: Connection) -> dict[str, Any]:
    """Return the next message.

    Raises:
        EOFError: the other side is gone.
        OSError: the connection broke.
    """
    value: dict[str, Any] = json.loads(connection.recv_bytes())
    return value


def send_item(connection: Connection, item: Item | Measured) -> None:
    """Send what `receive_item` will return."""
    if isinstance(item, Clip):
        head = {
            "kind": "clip",
            "segment": item.segment,
            "view": item.view,
            "number": item.number,
            "grid": asdict(item.grid),
            "whole": item.whole,
            "times": item.times_T,
            "shape": item.frames_THW3.shape,
            "is_from_hardware": item.is_from_hardware,
        }
        send_json(connection, head)
        connection.send_bytes(np.ascontiguousarray(item.frames_THW3).data.cast("B"))
    elif isinstance(item, SegmentStart):
        views = {name: asdict(view) for name, view in item.views.items()}
        head = {"kind": "start", "segment": item.segment, "info": asdict(item.info), "views": views}
        send_json(connection, head)
    elif isinstance(item, Measured):
        send_json(
            connection, {"kind": "measured", "segment": item.segment, "cut": asdict(item.cut)}
        )
    else:
        error = item.error
        said = error and {"problem": error.problem, "stage": error.stage, "remedy": error.remedy}
        send_json(connection, {"kind": "end", "segment": item.segment, "error": said})


def receive_item(connection: Connection) -> Item | Measured:
    """Return the next item.

    Raises:
        EOFError: the other side is gone.
        OSError: the connection broke.
        DecoderBugError: the other side met a bug of ours.
    """
    head = receive_json(connection)
    kind = head.pop("kind")
    if kind == "bug":
        raise DecoderBugError(head["traceback"])
    if kind == "clip":
        frames_THW3 = np.frombuffer(connection.recv_bytes(), dtype=np.uint8)
        return Clip(
            segment=head["segment"],
            view=head["view"],
            number=head["number"],
            grid=Grid(**head["grid"]),
            whole=head["whole"],
            frames_THW3=frames_THW3.reshape(head["shape"]),
            times_T=tuple(head["times"]),
            is_from_hardware=head["is_from_hardware"],
        )
    if kind == "start":
        return SegmentStart(
            segment=head["segment"],
            info=VideoInfo(**head["info"]),
            views={
                name: View(**{**view, "grid": Grid(**view["grid"])})
                for name, view in head["views"].items()
            },
        )
    if kind == "measured":
        found = head["cut"]
        return Measured(
            segment=head["segment"],
            cut=Cut(
                info=VideoInfo(**found["info"]),
                duration_seconds=found["duration_seconds"],
                parts=tuple(Part(**part) for part in found["parts"]),
            ),
        )
    error = head["error"] and VideoError(**head["error"])
    return SegmentEnd(segment=head["segment"], error=error)
