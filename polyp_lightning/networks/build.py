"""Networks by name, and their input normalisation.

Any architecture and encoder of segmentation_models_pytorch (smp), and networks of the user's own.
"""

import inspect
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError, join_names, nearest
from polyp_lightning.common.torch_archive import find_damage, is_archive
from polyp_lightning.networks.names import check_path, is_own
from polyp_lightning.networks.own import build_own

Triple = tuple[float, float, float]
ArchOptions = dict[str, Any]
"""What an architecture takes besides its encoder: smp's whole numbers, such as widths; others any plain values."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (255 * 0.0167),) * 3)
# The encoders whose published ImageNet weights expect another input than the usual one, by the start of their name.
_OTHERS = {
    "dpn": _DPN,
    "inceptionresnetv2": _HALF,
    "inceptionv4": _HALF,
    "xception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
}


def build_net(
    arch: str,
    encoder: str,
    encoder_weights: str | None,
    arch_options: Mapping[str, Any] | None = None,
    prediction: str | int | None = None,
) -> nn.Module:
    """Builds a segmentation network for RGB frames with one output channel.

    Args:
        arch: an smp architecture, such as ``Unet`` or ``DeepLabV3Plus``; case does not matter. Or the import path of a
            class or function of the user's own, which is imported: it has to come from the user, see
            :mod:`polyp_lightning.networks.own`.
        encoder: an smp encoder, such as ``resnet34``, or ``tu-<name>`` for one of timm's; not used by others.
        encoder_weights: ``imagenet`` (smp downloads them), the path of a file that holds the encoder's state dict, or
            None for random weights.
        arch_options: further arguments of the architecture, such as ``decoder_channels``; None for its defaults.
        prediction: which map of a network of the user's own is the prediction.

    Returns:
        A network that takes normalised floats (N, 3, H, W) and returns logits (N, 1, H, W); for H and W
        that are multiples of 32. One of the user's own is an :class:`~polyp_lightning.networks.own.OwnNet`.

    Raises:
        ConfigError: a name or option is unknown, they don't go together, or the weights can't be had or don't fit.

    >>> net = build_net("Unet", "resnet18", None)
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1, 64, 64])
    """
    check_names(arch, encoder)
    if is_own(arch):
        _check_no_weights(arch, encoder_weights)
        return build_own(arch, arch_options or {}, prediction)
    if prediction is not None:
        msg = f"prediction={prediction!r}: {arch} returns one map; leave it out (--model.prediction)"
        raise ConfigError(msg)
    options = _check_options(arch, arch_options or {})
    if encoder_weights == "imagenet":
        _check_published(encoder)
        return _pretrained(arch, encoder, options)
    state = None if encoder_weights is None else _read_state(Path(encoder_weights).expanduser())
    net = _create(arch, encoder, None, options)
    if state is not None:
        _load_encoder(net, encoder, state, str(encoder_weights))
    return net


def check_names(arch: str, encoder: str) -> None:
    """Checks the names of an architecture and an encoder without building anything; an error has the nearest one.

    Of a network of the user's own only whether it looks like an import path.
    """
    if is_own(arch):
        check_path(arch)
        return
    _check_arch(arch)
    _check_encoder(encoder)


def normalisation(
    encoder: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[Triple, Triple]:
    """Returns mean and standard deviation per RGB channel of a network's input, for values in [0, 1].

    What is not given is what the encoder's ImageNet weights expect; without an encoder, ImageNet's own. Needs no
    download; smp would fetch them from its hub. They don't depend on ``encoder_weights``: a network sees the same
    input whether it starts from published weights, from a file or from a checkpoint.

    >>> normalisation("timm-tf_efficientnet_lite0")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    Raises:
        ConfigError: what is given is not three numbers, or a deviation is not positive.
    """
    usual = _usual_normalisation(encoder)
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and (len(values) != 3 or (name == "std" and min(values) <= 0)):
            wanted = "three numbers, for red, green and blue" + (", above 0" if name == "std" else "")
            msg = f"{name}={list(values)} must be {wanted} (--model.{name})"
            raise ConfigError(msg)
    return usual[0] if mean is None else _triple(mean), usual[1] if std is None else _triple(std)


def _usual_normalisation(encoder: str) -> tuple[Triple, Triple]:
    settings = timm.models.get_pretrained_cfg(_timm_name(encoder)) if _is_timm(encoder) else None
    if settings is not None:
        return _triple(settings.mean), _triple(settings.std)
    return next((values for start, values in _OTHERS.items() if encoder.startswith(start)), IMAGENET)


def normalise(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalises images to zero mean and unit deviation over ImageNet, channels last: what a network takes.

    Images are RGB (N, 3, H, W) with values in 0 … 255; ``mean`` and ``std`` are per channel (1, 3, 1, 1), for [0, 1].
    """
    image = image.to(dtype=mean.dtype, memory_format=torch.channels_last)
    return (image - 255 * mean) / (255 * std)


def per_channel(values: Triple) -> Tensor:
    """Shapes one value per RGB channel to (1, 3, 1, 1)."""
    return torch.tensor(values).view(1, 3, 1, 1)


def _triple(values: Iterable[float]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _check_arch(arch: str) -> None:
    if arch.lower() not in smp.MODEL_ARCHITECTURES_MAPPING:
        hint = nearest(arch, [cls.__name__ for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()])
        msg = (
            f"arch={arch!r} is not an architecture of segmentation_models_pytorch. {hint} A network of your own is "
            "named by its import path, package.module.Class (--model.arch)"
        )
        raise ConfigError(msg)


def _check_no_weights(arch: str, encoder_weights: str | None) -> None:
    if encoder_weights is not None:
        msg = (
            f"encoder_weights={encoder_weights!r} are for encoders of segmentation_models_pytorch, and {arch} loads "
            "its own: set --model.encoder_weights null, and name a file of weights in --model.arch_options"
        )
        raise ConfigError(msg)


def _check_encoder(encoder: str) -> None:
    if encoder in smp.encoders.encoders or (_is_timm(encoder) and timm.is_model(_timm_name(encoder))):
        return
    known = [f"tu-{n}" for n in timm.list_models()] if encoder.startswith("tu-") else smp.encoders.get_encoder_names()
    hint = nearest(encoder, known)
    msg = f"encoder={encoder!r} is not an encoder of segmentation_models_pytorch. {hint} (--model.encoder)"
    raise ConfigError(msg)


def _check_options(arch: str, options: Mapping[str, Any]) -> ArchOptions:
    """Checks that the architecture has these options and that they are whole numbers; returns a copy."""
    builder = smp.MODEL_ARCHITECTURES_MAPPING[arch.lower()]
    fixed = ("self", "encoder_name", "encoder_weights", "in_channels", "classes", "kwargs")
    known = [name for name in inspect.signature(builder).parameters if name not in fixed]
    for name, value in options.items():
        if name not in known:
            msg = f"arch_options: {arch} has no {name!r}. {nearest(name, known)} (--model.arch_options)"
            raise ConfigError(msg)
        values = value if isinstance(value, list) else [value]
        if not values or any(type(one) is not int or one < 1 for one in values):
            msg = f"arch_options: {name}={value!r} must be a positive whole number, or a list of them"
            raise ConfigError(msg)
    return dict(options)


def _check_published(encoder: str) -> None:
    published = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {"imagenet": {}})
    if "imagenet" not in published:
        msg = (
            f"encoder_weights='imagenet': none are published for {encoder} (only {join_names(list(published))}). "
            "Give the path of a weights file, or null for random weights (--model.encoder_weights)."
        )
        raise ConfigError(msg)


def _is_timm(encoder: str) -> bool:
    """Whether smp hands the encoder to timm; it renames some of its former ``timm-`` encoders to that."""
    former = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
    return encoder.startswith(("tu-", *former))


def _timm_name(encoder: str) -> str:
    name = encoder.removeprefix("tu-").removeprefix("timm-")
    return f"tf_{name}" if encoder.startswith("timm-mobilenetv3") else name


def _create(arch: str, encoder: str, weights: str | None, options: ArchOptions) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # smp deprecates the names of its `timm-` encoders; some, such as the lite ones, have no equal under `tu-`.
            warnings.simplefilter("ignore", DeprecationWarning)
            # It also warns that a timm encoder's weights are chosen by its name, which the documentation says.
            warnings.filterwarnings("ignore", message="For 'tu-'", category=UserWarning)
            net: nn.Module = smp.create_model(
                arch, encoder, encoder_weights=weights, in_channels=3, classes=1, **options
            )
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError) as error:
        given, flag = (f" and {options}", ", --model.arch_options") if options else ("", "")
        msg = (
            f"arch={arch!r} can't be built with encoder={encoder!r}{given}: {error}. "
            f"Change --model.arch{flag} or --model.encoder."
        )
        raise ConfigError(msg) from error
    return net


def _pretrained(arch: str, encoder: str, options: ArchOptions) -> nn.Module:
    try:
        return _create(arch, encoder, "imagenet", options)
    except OSError as error:
        msg = (
            f"encoder_weights='imagenet': the weights of {encoder} could not be downloaded ({type(error).__name__}). "
            "Without a network, give the path of a file that holds the encoder's state dict, or null for random "
            "weights (--model.encoder_weights)."
        )
        raise ConfigError(msg) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        msg = (
            f"encoder_weights={str(path)!r} is neither 'imagenet', nor null, nor an existing file "
            f"(looked for {path.absolute()}). Change --model.encoder_weights."
        )
        raise ConfigError(msg)
    try:
        # The older format has no checksums.
        damage = find_damage(path) if is_archive(path) else None
        if damage:
            msg = f"encoder_weights={str(path)!r} {damage}"
            raise ConfigError(msg)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        msg = f"encoder_weights={str(path)!r} can't be read as PyTorch weights: {reason}"
        raise ConfigError(msg) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        msg = (
            f"encoder_weights={str(path)!r} holds {_kind(state)} instead of a state dict (parameter name → tensor). "
            "Save it with torch.save(net.encoder.state_dict(), path)."
        )
        raise ConfigError(msg)
    return state


def _kind(state: Any) -> str:
    return (
        f"a dict with {join_names([str(key) for key in state])}"
        if isinstance(state, dict) and state
        else f"a {type(state).__name__}"
    )


def _load_encoder(net: nn.Module, encoder: str, state: dict[str, Tensor], path: str) -> None:
    try:
        net.get_submodule("encoder").load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = join_names([line.strip() for line in str(error).splitlines()[1:]], limit=2)
        msg = f"encoder_weights={path!r} does not fit encoder={encoder!r}: {first[:400]}"
        raise ConfigError(msg) from error
