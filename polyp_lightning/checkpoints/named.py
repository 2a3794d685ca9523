"""The networks that come with the package, by name: each is a checkpoint in the folder ``nets``."""

from pathlib import Path

from polyp_lightning.common.errors import ConfigError, nearest

FOLDER = Path(__file__).with_name("nets")
"""Where they lie, with the model card, ``README.md``."""


def list_nets() -> list[str]:
    """Lists their names."""
    return sorted(path.stem for path in FOLDER.glob("*.ckpt"))


def is_named(checkpoint: Path) -> bool:
    """Tells whether a checkpoint is one of them."""
    return checkpoint.parent == FOLDER


def find_net(name: str, flag: str) -> Path:
    """Finds a network's checkpoint by its name; ``flag`` is what the user gave it with.

    Raises:
        ConfigError: there is none of this name.
    """
    names = list_nets()
    if name not in names:
        known = nearest(name, names) if names else "This build holds none; `make ship` trains them."
        msg = f"{flag} {name} is neither a file nor a network of the package. {known}"
        raise ConfigError(msg)
    return FOLDER / f"{name}.ckpt"
