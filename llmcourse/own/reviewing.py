"""Pairs as a table that a learner reads and mends before anything is trained.

The file is `data.reviewing`'s, so that `widgets.PairReview` can work on it too.
"""

from llmcourse.data.reviewing import FIRST, NO, YES, load_reviewed, save_for_review

__all__ = ["FIRST", "NO", "YES", "load_reviewed", "save_for_review"]
