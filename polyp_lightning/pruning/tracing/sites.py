"""Places in a network's code where a number may be a constant that a trace cannot see: views, splits and slices.

The same operation can often be cut in several ways: ``x.view(n, heads, width)`` loses whole heads, or the same position
of every head. Which of them the code bears, and whether a number that the module keeps (``self.num_heads``) has to
follow, shows only when it runs on a cut network. So each site has a list of choices, and a trial cut moves on to the
next one where the code does not bear the present one; the last is to freeze what passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from polyp_lightning.pruning.labels import Atoms

Key = tuple[str, str, int]
"""Class of the module whose code it is, operation, and its number among those of one call (0: all are one)."""

Place = tuple[int, int]
"""Number of the pass and of the operation in it."""


@dataclass(frozen=True)
class SizeRecord:
    """A whole number that a module keeps, equal to the number of ``atoms`` at a site."""

    module: str
    attribute: str
    atoms: Atoms
    place: Place


@dataclass
class Site:
    """One execution of a site.

    Attributes:
        key: what it shares with its other executions.
        place: where in the trace it is.
        choices: how many there are, freezing not counted.
        followers: names of the numbers that the module keeps and that would follow a cut here.
    """

    key: Key
    place: Place
    choices: int
    followers: set[str] = field(default_factory=set)


@dataclass
class Frame:
    """A module that is being called."""

    name: str
    module: nn.Module
    counts: dict[str, int] = field(default_factory=dict)

    def next_key(self, operation: str) -> Key:
        """The key of the next site of this call."""
        # Splits into as many parts are one decision: queries, keys and values lose the same heads, or positions.
        number = 0 if operation.startswith("split ") else self.counts.get(operation, 0) + 1
        self.counts[operation] = number
        return type(self.module).__qualname__, operation, number

    def sizes_equal_to(self, *numbers: int) -> list[str]:
        """Names of the whole numbers above 1 that the module keeps and that are equal to one of these."""
        values: dict[str, Any] = vars(self.module)
        return [name for name, value in values.items() if type(value) is int and value > 1 and value in numbers]


class Choices:
    """What was decided so far, by trial.

    Attributes:
        frozen: operations of which everything is frozen.
        whole_groups: grouped convolutions that lose whole groups though they have few wide ones.
    """

    def __init__(self) -> None:
        self.whole_groups: set[str] = set()
        self._orders: dict[tuple[str, int], list[int]] = {}
        self._taken: dict[Key, int] = {}
        self._vetoed: dict[Key, set[str]] = {}
        self.frozen: set[Place] = set()

    def start_over(self, whole_groups: set[str]) -> None:
        """Forget all else: with other couplings, other choices come first."""
        self.whole_groups = whole_groups
        self._orders.clear()
        self._taken.clear()
        self._vetoed.clear()
        self.frozen.clear()

    def at(self, key: Key) -> int:
        """The number of the choice to take."""
        return self._taken.get(key, 0)

    def order(self, code: str, places: list[int]) -> list[int]:
        """The order in which the parts of a split are tried: that of the first split of this code into as many."""
        return self._orders.setdefault((code, len(places)), places)

    def may_follow(self, key: Key, attribute: str) -> bool:
        """Whether a number may follow at this site: not where it was equal to a width by chance."""
        return not any(attribute in names for other, names in self._vetoed.items() if other[0] == key[0])

    def move_on(self, site: Site, sites: Sequence[Site]) -> bool:
        """Take the next choice at a site that did not bear the present one; False if there is none left."""
        present = self.at(site.key)
        if present >= site.choices:
            return False
        # Choices come in pairs, with numbers that follow and without; where there are none the pair is one. A number
        # that equals a width by chance may have come in at another site of the same code.
        followers = set().union(*(other.followers for other in sites if other.key[0] == site.key[0]))
        following = present + (1 if followers or present % 2 else 2)
        self._taken[site.key] = following
        self._vetoed[site.key] = followers if following % 2 else set()
        if following >= site.choices and site.key[1].startswith("split "):
            # A module that bears no split of one kind bears none: what it makes together is split alike.
            for other in sites:
                if other.key[0] == site.key[0] and other.key[1].startswith("split "):
                    self._taken[other.key] = other.choices
        return True
