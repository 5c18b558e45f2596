import torch

from gazepack.autogaze.cache import KeyValueCache
from gazepack.autogaze.packed import PackedDecoder


def fill(cache, values, slots):
    slots = torch.tensor(slots)
    keys = torch.full((len(slots), slots.shape[1], 2, 16), float(values))
    return cache.write(0, slots, int(slots.max()) + 1, keys, -keys)


def test_rows_are_written_behind_their_own_ends(tiny):
    """Each row's tokens land in its own slots, in every head."""
    cache = KeyValueCache(
        tiny.network.config.decoder,
        num_rows=2,
        room=8,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    keys, values = fill(cache, 5, [[0, 1], [3, 4]])
    assert keys[0, 1, :, 7].tolist() == [5, 5, 0, 0, 0]
    assert values[1, 0, :, 3].tolist() == [0, 0, 0, -5, -5]


def test_growing_keeps_what_is_there(tiny):
    """More room is made without losing a token, and enough room is left alone."""
    cache = KeyValueCache(
        tiny.network.config.decoder,
        num_rows=1,
        room=2,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    fill(cache, 5, [[0, 1]])
    assert not cache.reserve(2)
    assert cache.room == 2
    assert cache.reserve(3)
    assert cache.room >= 3
    keys, _ = fill(cache, 7, [[2]])
    assert keys[0, 0, :, 0].tolist() == [5, 5, 7]


def test_a_row_alone_is_written_and_masked_as_any_other(tiny):
    """What the host knows gives the same memory, and the same staircase at every length and after growing."""
    shape = tiny.network.config.decoder
    place = {"device": torch.device("cpu"), "dtype": torch.float32}
    known, asked = (KeyValueCache(shape, num_rows=1, room=6, **place) for _ in range(2))
    keys_NAE, values_NAE = torch.randn(2, 4, 2, 16)
    known.write_alone(0, 1, keys_NAE, values_NAE)
    slots_BN = torch.arange(1, 5)[None]
    expected = asked.write(0, slots_BN, 5, keys_NAE[None], values_NAE[None])
    for part, actual in zip(expected, known.seen_alone(0, 5), strict=True):
        assert torch.equal(part[0], actual)
    for room, extent, num_new in ((6, 5, 4), (6, 6, 1), (6, 3, 3), (200, 150, 20)):
        known.reserve(room)
        slots_BN = torch.arange(extent - num_new, extent)[None]
        mask_NM = PackedDecoder._mask(slots_BN, extent, torch.float32)[0, 0]
        assert torch.equal(known.mask_alone(num_new, extent), mask_NM)


def test_only_a_row_alone_that_is_not_padded_is_alone(tiny):
    """An accelerator looks at padded lengths, and other rows have ends of their own."""
    shape = tiny.network.config.decoder
    place = {"device": torch.device("cpu"), "dtype": torch.float32, "room": 4}
    alone = [
        KeyValueCache(shape, num_rows=rows, stride=stride, **place).is_alone
        for rows, stride in ((1, 1), (2, 1), (1, 256))
    ]
    assert alone == [True, False, False]
