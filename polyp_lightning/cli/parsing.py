"""One manner for the parsers of all verbs that Lightning does not run."""

import argparse
from typing import NoReturn

from polyp_lightning.common.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    """A mistake in the options is an error like any other."""

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with the options.

        Raises:
            ConfigError: always.
        """
        msg = f"{message} ({self.prog} --help lists the options)"
        raise ConfigError(msg)


def make_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """A verb's parser, which takes no shortened options.

    Args:
        verb: its name.
        description: what it does.
    """
    return _Parser(f"python -m polyp_lightning {verb}", description=description, allow_abbrev=False)
