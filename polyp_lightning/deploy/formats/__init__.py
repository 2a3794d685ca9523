"""The export formats, one file each: every file in this folder has a ``FORMAT``."""

import importlib
import pkgutil

from polyp_lightning.deploy.export_format import ExportFormat

_modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))

FORMATS: dict[str, ExportFormat] = {module.FORMAT.name: module.FORMAT for module in _modules}
"""Every format by its name."""
