"""The package's networks where an exported model is needed: exported at first use, and kept in the user's cache."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from polyp_lightning.checkpoints.named import is_named
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.common.options import option
from polyp_lightning.common.version import VERSION
from polyp_lightning.data.cache import default_cache_dir
from polyp_lightning.deploy.bundle import read_bundle
from polyp_lightning.deploy.export_format import ExportFormat
from polyp_lightning.deploy.formats import FORMATS


def export_once(model: Path, backends: Sequence[str] = (), say: Callable[[str], None] = print) -> Path:
    """Returns the exported model of one of the package's networks; any other path stays as it is.

    It is made where the cache holds none of these very weights, this version and this format. ``backends`` have to run
    it: they choose the format; without them it is the fastest that runs here.

    Raises:
        ConfigError: no format runs in all of them.
    """
    if not is_named(model):
        return model
    kind = _choose_format(backends)
    folder = f"{model.stem}-{sha256(model)[:16]}-{VERSION}"
    target = default_cache_dir() / "exports" / folder / f"{model.stem}{kind.suffix}"
    try:
        return read_bundle(target).path
    except ConfigError:
        # PyTorch, which the second use does without.
        from polyp_lightning.deploy.export import ExportOptions, export

        say(f"{model.stem} is used for the first time in this form")
        return export(ExportOptions(model, kind.name, output=target, overwrite=True), say).path


def _choose_format(backends: Sequence[str]) -> ExportFormat:
    kinds = sorted(FORMATS.values(), key=lambda kind: not kind.merges_upsampling)
    able = [kind for kind in kinds if set(backends) <= set(kind.backends)]
    if not able:
        together = "; ".join(dict.fromkeys(", ".join(kind.backends) for kind in kinds))
        msg = f"{option('backend')} {', '.join(backends)}: no format runs so; allowed, together: {together}"
        raise ConfigError(msg)
    here = [kind for kind in able if find_spec(kind.backends[0])]
    # Of none that runs here, loading says what is missing.
    return (here or able)[0]
