"""What is written down of a stage when it begins."""

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from polyp_lightning.checkpoints.stages import StageRecord, join_layers
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import hide_home
from polyp_lightning.pruning import ChannelGraph, Dense, Example
from polyp_lightning.pruning.budget.recipe import Recipe
from polyp_lightning.pruning.graph import group_by_cause
from polyp_lightning.pruning.widths import filters, per_block

_MUCH = 0.2
_REASONS = 3


def describe_stage(
    net: nn.Module,
    graph: ChannelGraph,
    example: Example,
    dense: Dense,
    *,
    stage: int,
    epoch: int,
    step: int,
    metric: str,
) -> StageRecord:
    """A stage's cost and widths.

    Args:
        net: the network, as the stage begins.
        graph: its graph.
        example: what it is called with.
        dense: what shares are shares of.
        stage: its number.
        epoch: in which it begins.
        step: steps that were made before.
        metric: name of the metric in its scores.
    """
    gmacs, params = _cost(net, graph, example)
    layers = filters(net, graph.executed)
    share = graph.total_macs() / dense.cost("macs")
    record = StageRecord(stage, epoch, gmacs, share, params, per_block(layers), layers, metric=metric, step=step)
    if stage == 0:
        record.frozen = {
            hide_home(str(cause)): {layer.layer: layer.frozen for layer in found}
            for cause, found in group_by_cause(graph.frozen_layers).items()
        }
    return record


def warn_of_frozen(record: StageRecord) -> None:
    """Warns where much of the dense network can't be cut, with the reasons that weigh most."""
    if record.frozen_share <= _MUCH:
        return
    reasons = "; ".join(
        f"{sum(layers.values())} of {join_layers(layers)}, because of {cause}"
        for cause, layers in list(record.frozen.items())[:_REASONS]
    )
    rank_zero_warn(
        f"{record.frozen_share:.0%} of the convolutions' filters can't be cut: {reasons}. A change of these lines may "
        "free them; python -m polyp_lightning prune --dry_run true lists all that stay"
    )


def explain_cut(
    record: StageRecord,
    before: StageRecord,
    net: nn.Module,
    graph: ChannelGraph,
    recipe: Recipe,
    dense: Dense,
    to_go: float,
) -> None:
    """Adds to a stage what its cut was asked for, what it left, and how many filters each layer lost.

    Args:
        record: of the stage that begins.
        before: of the one that ends.
        net: the network after the cut.
        graph: its graph.
        recipe: how the cut was chosen.
        dense: what shares are shares of.
        to_go: share of the way to the target that is left to later cuts.
    """
    target = recipe.target
    record.unit = target.unit
    record.asked = target.value_of(target.budget(dense, to_go), dense)
    record.left = target.value_of(recipe.dense(net, graph).cost(target.unit), dense)
    lost = {name: width - record.layers.get(name, 0) for name, width in before.layers.items()}
    record.gone = {name: count for name, count in lost.items() if count}


def _cost(net: nn.Module, graph: ChannelGraph, example: Example) -> tuple[float, int]:
    """GMACs of one item, and parameters in use."""
    # ptflops is needed here alone.
    from polyp_lightning.networks.complexity import measure

    try:
        cost = measure(net, example)
    except ConfigError:
        # A network that ptflops can't run; the graph leaves biases out.
        parameters = graph.executed - graph.buffers
        return graph.total_macs() / 1e9, sum(p.numel() for n, p in net.named_parameters() if n in parameters)
    return cost.gmacs, cost.params_used
