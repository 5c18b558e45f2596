"""Containers by name."""

from collections.abc import Mapping

from gazepack.formats.arrow import ArrowContainer
from gazepack.formats.shard import Container
from gazepack.formats.webdataset import WebDatasetContainer

CONTAINERS: Mapping[str, Container] = {
    "webdataset": WebDatasetContainer(),
    "arrow": ArrowContainer(),
}
"""Every container this gazepack knows."""
