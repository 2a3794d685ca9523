"""Finds the network to prune and what it is called with: from options, a given example or the first training batch."""

from contextlib import ExitStack

from lightning.pytorch import LightningModule, Trainer

from polyp_lightning.callbacks.found_net import Call, CallWatch, find_net, inside_compiled, rehearse
from polyp_lightning.callbacks.passes import beside_training, run_eagerly
from polyp_lightning.pruning import Example


class NetFinder:
    """Keeps the name of a LightningModule's network and its example, once they are known.

    Args:
        module: the submodule's name, if it is given.
        example: what it is called with, if that is given.

    Attributes:
        name: the network's name, as ``get_submodule`` takes it; None before it is known.
        example: what it is called with; None before that is known.
    """

    def __init__(self, module: str | None, example: Example | None) -> None:
        self.name = self._wanted = module
        self.example = self._given = example
        self._watch: CallWatch | None = None
        self._eager: ExitStack | None = None

    @property
    def is_known(self) -> bool:
        """Whether both are known."""
        return self.name is not None and self.example is not None

    @property
    def is_watching(self) -> bool:
        """Whether a training batch is being watched."""
        return self._watch is not None

    def restore(self, name: str | None, example: Example | None) -> None:
        """Takes what a checkpoint holds; older ones hold neither, and the options stay."""
        self.name = self._wanted if name is None else name
        self.example = self._given if example is None else example

    def ask_for_example(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at a forward pass of the module's ``example_input_array``, if it has one."""
        given = getattr(module, "example_input_array", None)
        if given is None:
            return
        with beside_training(trainer):
            calls = rehearse(module, given)
        if calls:
            self._take(find_net(module, calls, self._wanted))

    def resolve_compiled(self, module: LightningModule) -> str:
        """Names the network itself where ``torch.compile`` has wrapped it; returns the name."""
        self.name = inside_compiled(module, str(self.name))
        return self.name

    def start_watch(self, trainer: Trainer, module: LightningModule) -> None:
        """Watches what the next training batch calls."""
        self._watch = CallWatch(module, wraps=trainer.strategy.model is not module)
        self._eager = run_eagerly()

    def end_watch(self, module: LightningModule) -> None:
        """Takes the network that was called.

        Raises:
            ConfigError: there are several that could be meant, or none.
        """
        calls = self._watch.calls if self._watch is not None else []
        self.stop()
        self._take(find_net(module, calls, self._wanted))

    def stop(self) -> None:
        """Takes the hooks away."""
        if self._watch is not None:
            self._watch.close()
        if self._eager is not None:
            self._eager.close()
        self._watch = self._eager = None

    def _take(self, call: Call) -> None:
        self.name, self.example = call.name, self.example or call.example
