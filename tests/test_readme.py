"""README's blocks of Python run as pasted."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import ROOT
from PIL import Image
from small_models import cut, lively_net, save_checkpoint

from polyp_lightning.pruning import rebuild

LOADING, PRUNING = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[:2]


def test_readme__loading_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(cut(lively_net(), 0.3), tmp_path / "last.ckpt")
    Image.new("RGB", (50, 40)).save(tmp_path / "frame.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(LOADING, names)  # noqa: S102
    assert names["found"].mask.shape == names["found"].probability.shape == (40, 50)


def test_readme__pruning_in_a_loop_of_ones_own() -> None:
    names: dict[str, Any] = {}
    exec(PRUNING, names)  # noqa: S102
    graph, removed, net = names["graph"], names["removed"], names["net"]
    assert graph.total_macs(removed) / graph.total_macs() == pytest.approx(0.5, abs=0.01)
    assert np.unique(names["importance"]).size > 0.5 * graph.size
    assert [p.shape for p in names["optimizer"].param_groups[0]["params"]] == [p.shape for p in net.parameters()]
    again = rebuild(names["smp"].Unet("resnet18", encoder_weights=None), names["plan"])
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
