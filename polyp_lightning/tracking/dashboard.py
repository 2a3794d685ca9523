"""A W&B workspace as code, made for the runs that this project logs."""

from dataclasses import dataclass
from typing import Any, Literal

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.extras import need

NAME = "Dice against MACs"
METHOD = "method"
"""The run's config value by which it is coloured: the criterion, or dense."""


@dataclass(frozen=True)
class Panel:
    """A drawing of the dashboard of one or more metrics, or one pattern that ends in ``.*``, against one.

    scatter: a point for each run, of its summary; line: a curve for each run, of its history; media: images.
    """

    kind: Literal["scatter", "line", "media"]
    title: str
    x: str
    y: tuple[str, ...]


_STEP = "trainer/global_step"

SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Dice against cost": (
        Panel(
            "scatter",
            "Best validation Dice of the final network against GMACs",
            "final/gmacs",
            ("final/val_dice_best",),
        ),
        Panel("scatter", "Best validation Dice of the final network against ms", "final/ms", ("final/val_dice_best",)),
        Panel("line", "Validation Dice against GMACs, by stage", "complexity/gmacs", ("pareto/val_dice",)),
        Panel("line", "Right after the cut", "complexity/gmacs", ("pareto/val_dice_after_cut",)),
    ),
    "Training": (
        Panel("line", "Validation Dice", _STEP, ("val/dice",)),
        Panel("line", "Stage", _STEP, ("stage",)),
        Panel("line", "Losses", _STEP, ("train/loss", "val/loss")),
        Panel("line", "GMACs", _STEP, ("complexity/gmacs",)),
    ),
    "Widths": (Panel("line", "Filters kept per block", _STEP, ("widths/.*",)),),
    "Overlays": (Panel("media", "Predicted and true masks by stage", "", ("overlays",)),),
}
"""The dashboard from top to bottom."""

COLUMNS = (
    f"config:{METHOD}.value", "summary:final/gmacs", "summary:final/share", "summary:final/params", "summary:final/ms",
    "summary:final/val_dice_best", "summary:best_dice/stage0",
)  # fmt: skip
"""What the table of runs shows."""


def build_workspace(entity: str, project: str) -> Any:
    """Builds the dashboard as an object of wandb-workspaces; asks no network.

    Raises:
        ConfigError: the package is missing.
    """
    names = ("reports.v2", "workspaces", "expr")
    wr, ws, expr = (need(f"wandb_workspaces.{name}") for name in names)
    return ws.Workspace(
        name=NAME,
        entity=entity,
        project=project,
        auto_generate_panels=False,
        sections=[
            ws.Section(name=name, panels=[_panel(wr, panel) for panel in panels], is_open=True)
            for name, panels in SECTIONS.items()
        ],
        # Runs of one group share a colour.
        runset_settings=ws.RunsetSettings(groupby=[expr.Config(METHOD)], pinned_columns=list(COLUMNS)),
    )


def to_json(workspace: Any) -> str:
    """Returns what would be sent, as JSON."""
    text: str = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    return text


def summarise(entity: str, project: str) -> str:
    """Returns what the dashboard shows, on one screen: its panels by section, and what they are drawn from."""
    lines = [f"Workspace {NAME!r} of {entity}/{project}, runs grouped by {METHOD}"]
    for section, panels in SECTIONS.items():
        lines.append(f"\n{section}")
        for panel in panels:
            against = f" against {panel.x}" if panel.x else ""
            lines.append(f"  {panel.title} ({panel.kind}):\n    {', '.join(panel.y)}{against}")
    return "\n".join([*lines, "\nTable of runs", *(f"  {column}" for column in COLUMNS)])


def _panel(wr: Any, panel: Panel) -> Any:
    if panel.kind == "scatter":
        return wr.ScatterPlot(title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y[0]))
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.y))
    if panel.y[0].endswith(".*"):
        return wr.LinePlot(title=panel.title, x=panel.x, metric_regex=panel.y[0])
    return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.y))


def save(workspace: Any) -> str:
    """Saves a dashboard and returns its address."""
    import requests
    import wandb

    try:
        return str(workspace.save().url)
    except (wandb.Error, requests.RequestException, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"the dashboard was not saved: {reason}. Check --entity {workspace.entity} and --project "
            f"{workspace.project} (a run must have been uploaded to it), the login and the network"
        )
        raise ConfigError(msg) from error
