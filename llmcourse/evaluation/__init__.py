"""Evaluation: how good a model's answers are, how sure that is, and what is wrong with them.

`evaluate` asks one model every question of a test set, `compare` several models or methods;
`label` names the kinds of mistakes, `consistency` and `perplexity` measure what no single answer
shows. `prefer` lets a model judge, `agreement` compares two people's labels, and `harness` in this
folder runs public benchmarks.
"""

from llmcourse.evaluation.agreement import agreement, agreement_by_class, load_labels, save_labels
from llmcourse.evaluation.judge import elo, judged_against, position_bias, prefer
from llmcourse.evaluation.metrics import (
    KINDS,
    METRICS,
    counted,
    keys_of,
    label,
    perplexity,
    record_losses,
)
from llmcourse.evaluation.running import (
    Comparison,
    Evaluation,
    Method,
    compare,
    consistency,
    evaluate,
    measured,
)
