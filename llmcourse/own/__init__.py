"""A learner's own data: from a folder of documents or a file of pairs to a tuned model.

The steps, each usable by itself: `read`, `pairs`, `save_for_review` and `load_reviewed`, `split`,
`train`, `assess`, `report`. `run` does all of them and leaves each step's file in one folder, a
report among them.
"""

from llmcourse.data.reviewing import load_reviewed, save_for_review
from llmcourse.own.assessing import Assessment, assess
from llmcourse.own.parts import Parts, split, trimmed
from llmcourse.own.pipeline import run, write_pairs
from llmcourse.own.report import Result, advice, report
from llmcourse.own.source import Source, pairs, read
from llmcourse.own.training import SIZES, Sizes, settings, sizes, train
from llmcourse.sizing import considerations, customers
