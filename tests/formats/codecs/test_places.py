"""Places without patches."""

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gazepack.errors import DatasetError
from gazepack.formats.codecs.places import MAX_TOKENS, Placed, PlacesCodec, pixels_crc32
from gazepack.formats.meta import ViewMeta
from gazepack.geometry import Grid

CODEC = PlacesCodec()


def view(rows, cols, tokens):
    """Return a view of so many tokens a frame."""
    num = len(tokens)
    lists = {"times": [0.1 * n for n in range(num)], "psnr": [30.0] * num, "l1": [1.0] * num}
    grid = {"name": "tiles", "rows": rows, "cols": cols, "patch_size": 16}
    return ViewMeta.model_validate(grid | lists | {"tokens": list(tokens)})


def placed_in(views, seed=0):
    """Return tokens at distinct places in a drawn order, ranked one by one."""
    draw = np.random.Generator(np.random.PCG64(seed))
    rows = []
    for number, of_view in enumerate(views):
        grid = Grid(rows=of_view.rows, cols=of_view.cols)
        for frame, count in enumerate(of_view.tokens):
            ids = draw.permutation(grid.num_choices)[:count]
            seen: dict[int, int] = {}
            for scale, row, col in zip(*grid.places(ids), strict=True):
                side = (2, 4, 7, 14)[scale]
                tile = int(row // side * grid.cols + col // side)
                rows.append((number, frame, scale, row, col, seen.setdefault(tile, 0)))
                seen[tile] += 1
    loss_N = draw.normal(-25, 3, len(rows)).astype(np.float16)
    loss_N[::5] = np.nan
    tokens_N6 = np.array(rows, dtype=np.uint16).reshape(-1, 6)
    return Placed(tokens_N6=tokens_N6, loss_N=loss_N, pixels_crc32=0xFEDCBA98)


COUNTS = st.lists(st.integers(0, 60), max_size=4)


@settings(max_examples=30, deadline=None)
@given(
    first=st.tuples(st.integers(1, 3), st.integers(1, 3), COUNTS),
    second=st.none() | st.tuples(st.just(1), st.just(1), COUNTS),
    seed=st.integers(0, 9),
)
def test_any_tokens_come_back(first, second, seed):
    """Encoding and decoding is the identity for any views, counts, places, order and losses."""
    views = [view(*given) for given in (first, second) if given is not None]
    placed = placed_in(views, seed)
    found = CODEC.decode(CODEC.encode(placed, views=views), views=views)
    np.testing.assert_array_equal(found.tokens_N6, placed.tokens_N6)
    np.testing.assert_array_equal(found.loss_N.view(np.uint16), placed.loss_N.view(np.uint16))
    assert found.pixels_crc32 == placed.pixels_crc32
    assert found.tokens_N6.dtype == np.uint16


def test_the_bytes_are_those_of_the_specification():
    """CRC, four planes of place numbers, two planes of loss steps, in one zstd frame."""
    tokens_N6 = np.array([(0, 0, 0, 1, 0, 0), (0, 0, 3, 13, 27, 0)], dtype=np.uint16)
    loss_N = np.array([-1.0, -2.0], dtype=np.float16)  # 0xBC00, 0xC000
    placed = Placed(tokens_N6=tokens_N6, loss_N=loss_N, pixels_crc32=0x01020304)
    data = CODEC.encode(placed, views=[view(1, 2, [2])])
    # places: 1 * 4 + 0, and 2 * 69 + 13 * 28 + 27 = 529 = 0x0211; steps 0xBC00, 0x0400
    expected = bytes.fromhex("04030201" + "0411" + "0002" + "0000" + "0000" + "0000" + "bc04")
    assert zstandard.ZstdDecompressor().decompress(data) == expected


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (bytes(4 + 6 * 2), "zstd states 16 bytes where the tokens need 22"),
        (bytes(4 + 6 * 4), "zstd states 28 bytes where the tokens need 22"),
        (bytes(4) + b"\x09" * 12 + bytes(6), r"grid ids must be in 0\.\.264"),
    ],
)
def test_other_contents_are_refused(content, match):
    """As many tokens as the metadata count, each at a place of the grid."""
    with pytest.raises(DatasetError, match=match):
        CODEC.decode(zstandard.compress(content), views=[view(1, 1, [3])])


def test_what_is_no_zstd_frame_is_refused():
    """Bytes that are none, or more than one."""
    whole = CODEC.encode(placed_in([view(1, 1, [3])]), views=[view(1, 1, [3])])
    for data in (b"", b"no frame", whole[:-1], whole + b"x"):
        with pytest.raises(DatasetError, match="zstd"):
            CODEC.decode(data, views=[view(1, 1, [3])])


def test_a_bomb_is_refused_before_it_is_unpacked():
    """Metadata of a few kB that count more tokens than a sample may have."""
    views = [view(16, 16, [65535] * (MAX_TOKENS // 65535 + 1))]
    with pytest.raises(DatasetError, match=f"more than {MAX_TOKENS}"):
        CODEC.decode(b"whatever", views=views)


def test_the_checksum_is_of_the_pixels(make_patches):
    """One value that differs, or another order, gives another number; memory order does not."""
    patches = make_patches(3, patch_size=16)
    other = patches.copy()
    other[2, 15, 15, 2] ^= 1
    crc32 = pixels_crc32(patches)
    assert crc32 == pixels_crc32(patches.copy(order="F"))
    assert len({crc32, pixels_crc32(other), pixels_crc32(patches[::-1])}) == 3
