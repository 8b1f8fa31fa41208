"""A learner's own data: from a folder of documents or a file of pairs to a tuned model.

The steps, each usable by itself: `read`, `pairs`, `save_for_review` and `load_reviewed`, `split`,
`train`, `assess`, `report`. `run` goes the whole way and leaves each step's file in one folder, a
report among them.
"""

from llmcourse.own.assessing import Assessment, assess, ways
from llmcourse.own.considering import considerations, customers
from llmcourse.own.learning import train
from llmcourse.own.parts import HELD_OUT, Parts, developed, group_of, split, trimmed
from llmcourse.own.pipeline import run, write_pairs
from llmcourse.own.reporting import report
from llmcourse.own.results import Result, advice
from llmcourse.own.reviewing import load_reviewed, save_for_review
from llmcourse.own.sizes import SIZES, Sizes, settings, sizes
from llmcourse.own.sources import Source, read
from llmcourse.own.writing import Written, pairs

__all__ = [
    "HELD_OUT", "SIZES", "Assessment", "Parts", "Result", "Sizes", "Source", "Written", "advice",
    "assess", "considerations", "customers", "developed", "group_of", "load_reviewed", "pairs",
    "read", "report", "run", "save_for_review", "settings", "sizes", "split", "train", "trimmed",
    "ways", "write_pairs",
]  # fmt: skip
