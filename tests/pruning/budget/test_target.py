import json

import pytest
import segmentation_models_pytorch as smp

from polyp_lightning.common.errors import PruningError
from polyp_lightning.networks.complexity import measure
from polyp_lightning.pruning import Dense, Target, trace
from polyp_lightning.pruning.budget import UNITS, Unit, choose_target, macs

DENSE = Dense({"macs": 8e9, "parameters": 2e6, "milliseconds": 40.0}, {"a": 8})


@pytest.mark.parametrize(
    ("target", "budget", "half_way"),
    [
        (Target(0.25), 2e9, 5e9),
        (Target(0.25, "params"), 0.5e6, 1.25e6),
        (Target(3.0, "gmacs"), 3e9, 5.5e9),
        (Target(10.0, "ms"), 10.0, 25.0),
    ],
)
def test_budget__of_each_unit(target: Target, budget: float, half_way: float) -> None:
    assert target.budget(DENSE) == budget
    assert target.budget(DENSE, left=0.5) == half_way
    assert target.budget(DENSE, left=1.0) == DENSE.cost(target.unit)
    assert target.value_of(budget, DENSE) == target.value


def test_budget__is_never_above_the_dense_network() -> None:
    assert Target(90.0, "ms").budget(DENSE, left=0.5) == 40.0


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (0.0, "macs", "share of the dense MACs"),
        (1.5, "params", "share of the dense parameters"),
        (-1.0, "gmacs", "10⁹ MACs"),
        (float("nan"), "ms", "milliseconds per frame"),
        (0.5, "flops", "choose one of macs, params, gmacs, ms"),
    ],
)
def test_target__what_cannot_be_is_refused(value: float, unit: str, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        Target(value, unit)  # type: ignore[arg-type]


def test_dense__goes_through_a_checkpoint() -> None:
    assert Dense.from_dict(json.loads(json.dumps(DENSE.as_dict()))) == DENSE


def test_dense__milliseconds_must_be_known() -> None:
    with pytest.raises(PruningError, match="needs a latency table"):
        Dense({"macs": 1.0}).cost("ms")


@pytest.mark.parametrize("arch", ["Unet", "PSPNet"])
def test_dense__is_what_an_independent_count_says(arch: str) -> None:
    # PSPNet never runs the deeper half of its encoder.
    net = smp.create_model(arch, "resnet18", encoder_weights=None)
    dense, counted = Dense.of(trace(net, (2, 3, 64, 64))), measure(net, 64)
    assert dense.cost("params") == counted.params_used
    # ptflops counts biases as well.
    assert dense.cost("macs") == pytest.approx(1e9 * counted.gmacs, rel=0.002)


@pytest.mark.parametrize(
    ("given", "value", "unit"),
    [
        (0.25, 0.25, "macs"),
        ("0.25", 0.25, "macs"),
        ("1.5 gmacs", 1.5, "gmacs"),
        ("12ms", 12.0, "ms"),
        (" 2e-1 params ", 0.2, "params"),
        (1, 1.0, "macs"),
    ],
)
def test_choose_target__a_value_names_its_unit(given: float | str, value: float, unit: str) -> None:
    assert choose_target(given, target_ms=None) == Target(value, unit)


@pytest.mark.parametrize("given", ["a quarter", "nan", "", "0.25 gmacs of 4", "gmacs", "0..5", "1 fps"])
def test_choose_target__what_it_cannot_read_names_the_units(given: str) -> None:
    with pytest.raises(PruningError, match="macs, params, gmacs, ms"):
        choose_target(given)


def test_choose_target__a_new_unit_needs_no_option_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kmacs = Unit("kmacs", "macs", "kMACs", "10³ MACs, more than 0", macs, scale=1e3)
    monkeypatch.setitem(UNITS, kmacs.name, kmacs)
    assert choose_target("500 kmacs").budget(DENSE) == 5e5
