import pytest

from gazepack.errors import UsageError
from gazepack.jobs import choices


def test_ray_is_used_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray, one process packs unless Ray was asked for; then it is named as what is missing."""
    choose = choices.choose_executor
    assert choose(None, num_units=2, address=None) == "ray"
    assert choose(None, num_units=1, address=None) == "serial"
    assert choose(None, num_units=1, address="auto") == "ray"
    assert choose("serial", num_units=2, address=None) == "serial"
    monkeypatch.setattr(choices, "find_spec", {}.get)
    assert choose(None, num_units=2, address=None) == "serial"
    for asked, address in (("ray", None), (None, "auto")):
        with pytest.raises(UsageError, match="Ray is not installed; pip install"):
            choose(asked, num_units=1, address=address)
