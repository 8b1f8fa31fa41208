"""Things to click in a notebook, which read well without a front end too.

`BlindVote` takes votes between two models' answers; who wrote what is not told before it is over.
Where a person runs the notebook, buttons take the votes. Where a program runs it, and in a saved
notebook, a plain table of the first pairs stands in their place, so no widget state is needed.
"""

from llmcourse.widgets.ballot import CHOICES, Ballot, Pair
from llmcourse.widgets.vote import BlindVote, is_live

__all__ = ["CHOICES", "Ballot", "BlindVote", "Pair", "is_live"]
