"""Where patches come from that a dataset does not store.

Reading needs no decoder, so this room only says what it asks of one: `gazepack.jobs.SourcePatches` cuts patches
out of the videos as packing did.
"""

from typing import Protocol

from gazepack.errors import DatasetError
from gazepack.formats.codecs.base import Patches, make_room
from gazepack.formats.codecs.places import pixels_crc32
from gazepack.formats.info import DatasetInfo
from gazepack.formats.record import LooseSample


class PatchSource(Protocol):
    """Cuts the patches of samples that come with their places alone; may be pickled, and used by threads."""

    def cut(self, sample: LooseSample, info: DatasetInfo, *, out: Patches) -> None:
        """Put the patches of a sample into `out`, uint8 N x P x P x 3, in the order of its tokens.

        Args:
            sample: says which video, which frames and which places.
            info: of its dataset; says how frames were sampled.
            out: where they go.

        Raises:
            DatasetError: the video is missing, or does not have these frames.
        """
        ...


def cut_patches(
    source: PatchSource, sample: LooseSample, info: DatasetInfo, *, place: str, out: Patches | None
) -> Patches:
    """Return the patches of a sample, cut from its video and known to be those that were chosen.

    Args:
        source: cuts them.
        sample: without patches.
        info: of its dataset.
        place: of the sample, for messages.
        out: where they go; new memory if `None`.

    Raises:
        DatasetError: they cannot be cut, or are others than those that were chosen.
    """
    room = make_room(sample.num_tokens, patch_size=sample.patch_size, out=out)
    try:
        source.cut(sample, info, out=room)
    except DatasetError as error:
        raise DatasetError(error.problem, place=place, remedy=error.remedy) from error
    if pixels_crc32(room) != sample.pixels_crc32:
        raise DatasetError(
            f"video {sample.meta['id']!r} now gives other pixels than those that were chosen from",
            place=place,
            remedy="name the file that was packed, and decode with the FFmpeg that packed it",
        )
    return room
