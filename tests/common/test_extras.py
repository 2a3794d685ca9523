import pytest
from extras import read_extras

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.extras import find_extra, need


@pytest.mark.parametrize("extra", read_extras())
def test_find_extra__is_the_one_that_asks_for_the_package(extra: str) -> None:
    modules = [module for module in read_extras()[extra] if module != "polyp_lightning"]
    assert modules
    assert {find_extra(f"{module}.inner") for module in modules} == {extra}


def test_find_extra__of_what_no_extra_brings() -> None:
    assert find_extra("numpy") is find_extra("polyp_lightning.nowhere") is find_extra("no_such_thing") is None


def test_need__imports_a_part_of_a_package() -> None:
    assert need("os.path").sep == "/"


def test_need__names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"^submitit is needed .*: pip install 'polyp-lightning\[cluster\]'$"):
        need("submitit")
