"""The pictures: one palette, one typeface, every figure with a caption and alternative text."""

from llmcourse.plots.base import table
from llmcourse.plots.diagrams import (
    from_zero_to_chat,
    lesson_map,
    low_rank,
    the_loop,
    three_levels,
    three_methods,
)
from llmcourse.plots.inspection import inspection
from llmcourse.plots.instructing import conversation, instruction_data, instruction_tuning
from llmcourse.plots.measured import (
    amounts,
    beside,
    comparison,
    curve,
    dots,
    forgetting,
    ledger,
    shares,
    side_by_side,
    stacked,
)
from llmcourse.plots.origins import (
    first_time,
    limits,
    pretraining,
    scraping,
    two_kinds_of_task,
    what_can_change,
)
from llmcourse.plots.tokens import tokens
from llmcourse.plots.why import (
    benefits,
    general_to_special,
    prompt_or_tune,
    tuned_or_not,
    what_it_does,
)

__all__ = [
    "amounts",
    "benefits",
    "beside",
    "comparison",
    "conversation",
    "curve",
    "dots",
    "first_time",
    "forgetting",
    "from_zero_to_chat",
    "general_to_special",
    "inspection",
    "instruction_data",
    "instruction_tuning",
    "ledger",
    "lesson_map",
    "limits",
    "low_rank",
    "pretraining",
    "prompt_or_tune",
    "scraping",
    "shares",
    "side_by_side",
    "stacked",
    "table",
    "the_loop",
    "three_levels",
    "three_methods",
    "tokens",
    "tuned_or_not",
    "two_kinds_of_task",
    "what_can_change",
    "what_it_does",
]
