import torch

from gazepack.autogaze.cache import KeyValueCache


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
