from pathlib import Path

import pytest

from polyp_lightning.cli.shipped_configs import CONFIGS, use_shipped
from polyp_lightning.common.errors import ConfigError


@pytest.mark.parametrize("way", [["--config", "kvasir"], ["--config=kvasir"]])
def test_use_shipped__a_name_becomes_its_file(way: list[str]) -> None:
    found = use_shipped(["--seed_everything", "kvasir", *way, "--data.name", "kvasir"])
    assert "".join(found[2:-2]) == "".join(way).replace("kvasir", str(CONFIGS / "kvasir.yaml"))
    assert [*found[:2], *found[-2:]] == ["--seed_everything", "kvasir", "--data.name", "kvasir"]
    assert (CONFIGS / "kvasir.yaml").is_file()


def test_use_shipped__files_of_the_users_own_come_first(here: Path) -> None:
    (here / "kvasir").touch()
    for name in ("kvasir", "configs/kvasir.yaml", "nowhere.yaml", "{a: 1}"):
        assert use_shipped(["--config", name]) == ["--config", name]
    assert use_shipped(["--config"]) == ["--config"]


def test_use_shipped__unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"--config study_cpu is neither .*\. Did you mean study-cpu"):
        use_shipped(["--config", "study_cpu"])
