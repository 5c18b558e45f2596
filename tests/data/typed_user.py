# pyright: standard
"""What a user would write; checked by type checkers, never run. `reveal`ed types are asserted."""

from typing import assert_type

import gazepack

dataset: gazepack.Dataset = gazepack.pack("videos/", "packed/", min_psnr=30, selector="greedy")
assert_type(len(gazepack.open("packed/")), int)
for sample in dataset:
    assert_type(sample, gazepack.Sample)
    assert_type(sample.num_tokens, int)
for batch in gazepack.GazeDataset("packed/", batch_tokens=4096):
    print(batch.patches.shape, batch.cu_seqlens)
try:
    gazepack.AutoGaze.from_pretrained("nvidia/AutoGaze")
except gazepack.GazepackError as error:
    assert_type(error.exit_code, int)
