"""Names of networks: of segmentation_models_pytorch, or import paths of the user's own. Imports no PyTorch."""

import re
from collections.abc import Collection

from polyp_lightning.common.errors import ConfigError, UnnamedClassError
from polyp_lightning.common.options import option

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def is_own(arch: str) -> bool:
    """Whether an architecture is an import path; the names of segmentation_models_pytorch have no dot.

    >>> is_own("Unet"), is_own("package.module.Class")
    (False, True)
    """
    return "." in arch


def check_path(arch: str, name: str = "arch") -> None:
    """Refuses what cannot be an import path, which could be made to mislead in a message."""
    if not _PATH.fullmatch(arch):
        msg = f"{name}={arch!r:.80} is no import path such as package.module.Class ({option('model.arch')})"
        raise ConfigError(msg)


def check_named(arch: str, named: Collection[str]) -> None:
    """Refuses to build a network of the user's own that only a file asks for.

    Args:
        arch: what the file says.
        named: what the user has named.

    Raises:
        UnnamedClassError: the user has not named it. Nothing has been imported.
    """
    if is_own(arch) and arch not in named:
        raise UnnamedClassError(arch)


def list_words(arch: str, encoder: str) -> list[str]:
    """Lists what a network is called by: architecture and encoder, or the import path alone."""
    return [arch] if is_own(arch) else [arch, encoder]


def name_net(arch: str, encoder: str) -> str:
    """Names a network in a sentence.

    >>> name_net("Unet", "resnet18"), name_net("package.module.Class", "")
    ('Unet with resnet18', 'package.module.Class')
    """
    return " with ".join(list_words(arch, encoder))
