"""Codecs by name."""

import pytest

from gazepack.errors import UsageError
from gazepack.formats.codecs import CODECS, codec_from, codec_from_settings


@pytest.mark.parametrize("name", sorted(CODECS))
def test_settings_describe_a_codec_completely(name):
    """A codec made from its own settings is equal."""
    codec = codec_from(name)
    assert codec_from_settings(codec.settings()) == codec


def test_a_setting_is_honoured():
    """What is asked for is in the settings."""
    assert codec_from("jpeg", quality=80).settings() == {"name": "jpeg", "quality": 80}


def test_an_unknown_codec_is_refused_with_the_known_ones():
    """The error names what exists."""
    with pytest.raises(UsageError, match="codec 'avif' does not exist; use jpeg or zstd or"):
        codec_from("avif")


def test_an_unknown_setting_is_refused_with_the_known_ones():
    """The error names the settings of the codec."""
    with pytest.raises(UsageError, match="'zstd' has no setting 'quality'; it has level"):
        codec_from("zstd", quality=3)


def test_settings_without_a_name_are_refused():
    """Settings must say which codec."""
    with pytest.raises(UsageError, match="do not name a codec"):
        codec_from_settings({"level": 3})


def test_a_codec_without_settings_says_so():
    """`raw` has nothing to set."""
    with pytest.raises(UsageError, match="'raw' has no setting 'level'; it has none"):
        codec_from("raw", level=3)
