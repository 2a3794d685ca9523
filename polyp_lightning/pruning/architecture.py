"""The architecture of a pruned network as plain values, for checkpoints.

A pruned network is rebuilt from shapes alone: a fresh dense network, the stored shapes, then the stored weights.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError, join_names
from polyp_lightning.pruning.surgery import changed_sizes, drop_tensor, named_tensors, resize, set_size, synchronise

SCHEMA = 1


def describe(net: nn.Module) -> dict[str, Any]:
    """Describe a network: the shape of every parameter and buffer and the groups of grouped convolutions.

    Returns:
        ``{"schema": 1, "shapes": {name: [sizes]}, "groups": {module name: number}, "sizes": {module name:
        {attribute: number}}}``, of ints, lists and strings only, so that a checkpoint that holds it loads with
        ``weights_only=True``. ``sizes`` has the numbers of its own that a module had to change, such as its number of
        heads. Tensors that were dropped (:func:`~polyp_lightning.pruning.surgery.drop_dead`) have no shape.
    """
    groups = {
        name: module.groups for name, module in net.named_modules() if isinstance(module, nn.modules.conv._ConvNd)
    }
    return {
        "schema": SCHEMA,
        "shapes": {name: list(tensor.shape) for name, tensor in named_tensors(net)},
        "groups": {name: number for name, number in groups.items() if number > 1},
        "sizes": changed_sizes(net),
    }


def rebuild(net: nn.Module, architecture: dict[str, Any], weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Give a network the shapes of a stored architecture, in place; its weights have to be loaded afterwards.

    Args:
        net: a network as its factory makes it, or one that was pruned less.
        architecture: what :func:`describe` returned for the pruned network.
        weights: those that will be loaded. Where they are given, a network that was pruned more grows again.

    Returns:
        The same network.

    Raises:
        PruningError: it has an unknown schema, is damaged, or belongs to another network.
    """
    shapes, groups, sizes = _validate(architecture)
    tensors = dict(named_tensors(net))
    _check_fit(tensors, shapes, net, groups, sizes)
    _check_sizes(tensors, shapes, weights or {})
    for name in tensors.keys() - shapes.keys():
        drop_tensor(net, name)
    for name, shape in shapes.items():
        if list(tensors[name].shape) != shape:
            resize(tensors[name], tensors[name].new_zeros(shape))
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.groups = groups.get(name, 1)
        for attribute, number in sizes.get(name, {}).items():
            set_size(module, attribute, number)
    synchronise(net)
    return net


def _validate(architecture: dict[str, Any]) -> tuple[dict[str, list[int]], dict[str, int], dict[str, dict[str, int]]]:
    schema = architecture.get("schema") if isinstance(architecture, dict) else None
    # By type first: a damaged file may hold a tensor there.
    if type(schema) is not int or schema != SCHEMA:
        msg = f"the checkpoint's architecture has schema {schema!r}; this version reads schema {SCHEMA}"
        raise PruningError(msg)
    # Those written before modules' own numbers followed a cut have none.
    shapes, groups, sizes = architecture.get("shapes"), architecture.get("groups"), architecture.get("sizes", {})
    well = _are_shapes(shapes) and _are_numbers(groups) and _is_table(sizes)
    if not (well and all(_are_numbers(numbers) for numbers in sizes.values())):
        msg = "the checkpoint's architecture is damaged: shapes, groups and sizes must be tables of whole numbers"
        raise PruningError(msg)
    return architecture["shapes"], architecture["groups"], sizes


def _is_number(module: nn.Module, attribute: str) -> bool:
    return not attribute.startswith("_") and type(getattr(module, attribute, None)) is int


def _is_table(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(name, str) for name in values)


def _are_shapes(shapes: Any) -> bool:
    return _is_table(shapes) and all(
        isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape) for shape in shapes.values()
    )


def _are_numbers(numbers: Any) -> bool:
    return _is_table(numbers) and all(type(number) is int and number > 0 for number in numbers.values())


def _check_fit(
    tensors: dict[str, Tensor],
    shapes: dict[str, list[int]],
    net: nn.Module,
    groups: dict[str, int],
    sizes: dict[str, dict[str, int]],
) -> None:
    modules = dict(net.named_modules())
    strangers = sorted(shapes.keys() - tensors.keys()) + sorted({*groups, *sizes} - modules.keys())
    dropped = tensors.keys() - shapes.keys()
    used = {name.rpartition(".")[0] for name in shapes} & {name.rpartition(".")[0] for name in dropped}
    strangers += sorted(name for name in dropped if name.rpartition(".")[0] in used)
    # A file may set numbers that are there, and nothing else.
    known = sorted(sizes.keys() & modules.keys())
    strangers += [f"{name}.{key}" for name in known for key in sizes[name] if not _is_number(modules[name], key)]
    if strangers:
        names = join_names(strangers)
        msg = f"the stored shapes belong to another architecture: they disagree with the network about {names}"
        raise PruningError(msg)


def _check_sizes(tensors: dict[str, Tensor], shapes: dict[str, list[int]], weights: Mapping[str, Tensor]) -> None:
    """No shape exceeds the network's, or it is that of a tensor that is in memory already."""
    odd = [
        name
        for name, shape in shapes.items()
        if len(shape) != tensors[name].ndim
        or (name in weights and list(weights[name].shape) != shape)
        or (name not in weights and any(a > b for a, b in zip(shape, tensors[name].shape, strict=True)))
    ]
    if odd:
        msg = (
            f"the stored shapes exceed those of the network: {join_names(odd)}; "
            "take the arch and encoder they were made for"
        )
        raise PruningError(msg)
