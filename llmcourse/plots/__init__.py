"""The pictures: one palette, one typeface, every figure with a caption and alternative text."""

from llmcourse.plots.base import table
from llmcourse.plots.diagrams import (
    conversation,
    from_zero_to_chat,
    instruction_data,
    instruction_tuning,
    lesson_map,
    low_rank,
    the_loop,
    three_levels,
    three_methods,
)
from llmcourse.plots.ideas import (
    benefits,
    first_time,
    general_to_special,
    limits,
    pretraining,
    prompt_or_tune,
    scraping,
    tuned_or_not,
    two_kinds_of_task,
    what_can_change,
    what_it_does,
)
from llmcourse.plots.inspection import inspection
from llmcourse.plots.measured import (
    amounts,
    beside,
    curve,
    dots,
    forgetting,
    ledger,
    shares,
    side_by_side,
    stacked,
)
from llmcourse.plots.tokens import tokens
