"""The pictures: one palette, one typeface, every figure with a caption and alternative text."""

from llmcourse.plots.base import Canvas, show, table
from llmcourse.plots.diagrams import (
    from_zero_to_chat,
    lesson_map,
    low_rank,
    the_loop,
    three_heights,
    three_ways,
)
from llmcourse.plots.inspection import inspection
from llmcourse.plots.measured import amounts, curve, dots, ledger, shares, side_by_side
from llmcourse.plots.tokens import tokens

__all__ = [
    "Canvas", "amounts", "curve", "dots", "from_zero_to_chat", "inspection", "ledger",
    "lesson_map", "low_rank", "shares", "show", "side_by_side", "table", "the_loop",
    "three_heights", "three_ways", "tokens",
]  # fmt: skip
