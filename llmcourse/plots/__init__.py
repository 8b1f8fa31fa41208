"""The pictures: one palette, one typeface, every figure with a caption and alternative text."""

from llmcourse.plots.base import show, table
from llmcourse.plots.diagrams import lesson_map, three_heights, three_ways
from llmcourse.plots.measured import dots, ledger, shares, side_by_side

__all__ = [
    "dots", "ledger", "lesson_map", "shares", "show", "side_by_side", "table", "three_heights",
    "three_ways",
]  # fmt: skip
