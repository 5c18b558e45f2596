"""What is packed: one row of the frozen listing, its schema, and its names.

An id is the user's name for a video; a key is an id made safe for file names. What cannot be packed for its
name or row alone stays in the listing with its `problem`, and goes on record with the other failures when its
turn comes.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gazepack.formats.remote import without_secrets
from gazepack.geometry import CLIP_FRAMES
from gazepack.video import Part

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("user", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
        pa.field("first_clip", pa.int32(), nullable=False),
        pa.field("num_clips", pa.int32()),
        pa.field("part_start_seconds", pa.float64()),
        pa.field("part_end_seconds", pa.float64()),
        pa.field("part_bytes", pa.int64()),
        pa.field("pixels", pa.float64()),
    ]
)
NUM_LISTED = SCHEMA.get_field_index("first_clip")
"""So many columns say what was listed; the others are filled in by `parts.py`, after a look into long files."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,150}")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_WINDOW = re.compile(r"_w\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One row of the table: a video, a time range of one, or a part of either."""

    id: str
    """The user's name for it; unique."""
    key: str
    """The id made safe for file names; unique."""
    uri: str
    """Where the file is: a local path or an fsspec URI."""
    bytes: int
    """Size of the file; 0 if unknown."""
    start_seconds: float | None = None
    """Where the segment starts; the start of the video if `None`."""
    end_seconds: float | None = None
    """Where the segment ends; the end of the video if `None`."""
    user: str = "{}"
    """The manifest's other columns, as a JSON object."""
    problem: str | None = None
    """Why it cannot be packed, when its name or row alone says so."""
    first_clip: int = 0
    """Where a part begins among the clips of its segment."""
    num_clips: int | None = None
    """The clips of a part; all that follow if `None`."""
    part_start_seconds: float | None = None
    """Where a part begins; `None` if this is a whole segment."""
    part_end_seconds: float | None = None
    """Where the part behind it begins; `None` if there is none."""
    part_bytes: int | None = None
    """The part's share of the file."""
    pixels: float | None = None
    """What decoding it takes, counted in pixels of all its frames; `None` if nobody looked."""

    @property
    def name(self) -> str:
        """The id, and of a part where it begins; unique."""
        at = self.part_start_seconds
        return self.id if at is None else f"{self.id} from {at:g} s"

    @property
    def shown_uri(self) -> str:
        """Where the file is, for people and files: without passwords and signatures."""
        return without_secrets(self.uri)

    @property
    def part(self) -> Part | None:
        """What to decode of the segment; all of it if `None`."""
        if self.part_start_seconds is None:
            return None
        return Part(
            first_frame=self.first_clip * CLIP_FRAMES,
            num_frames=None if self.num_clips is None else self.num_clips * CLIP_FRAMES,
            start_seconds=self.part_start_seconds,
            end_seconds=self.part_end_seconds,
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Segment":
        """Read a row of the table."""
        return cls(**row)


def key_of(video_id: str) -> str:
    """Return the key of an id: itself if it is safe and looks like no other key, else a slug and a hash."""
    if _SAFE_ID.fullmatch(video_id) and not _WINDOW.search(video_id):
        return video_id
    digest = hashlib.blake2b(video_id.encode(), digest_size=6).hexdigest()
    slug = _UNSAFE.sub("-", _ENDING.sub("", video_id)).strip("-")[-80:]
    return f"{slug}-{digest}" if slug else digest


def unicode_of(text: str) -> str:
    """Return a text with everything that is no character written out."""
    return text.encode("utf-8", "backslashreplace").decode()
