"""A row of a study's results."""

from dataclasses import fields

from polyp_lightning.study.results import Result

TEXT, NUMBER, COUNT = 'a, "b"\nc', 0.1, 3


def a_result(**values: object) -> Result:
    """A row in which every field is filled."""
    filled = {f.name: {str: TEXT, float: NUMBER, int: COUNT}.get(f.type, "pruned") for f in fields(Result)}
    return Result(**(filled | values))
