"""Things to use in a notebook, which read well without a front end too.

`BlindVote` takes votes between two models' answers, `Chat` asks two models side by side,
`TokenExplorer` and `TemplatePlayground` show what a model reads, `TrainingMonitor` trains while
one looks on, `ErrorBrowser` sorts and relabels mistakes, and `PairReview` goes through pairs that
a model wrote. Where a person runs the notebook, there are controls. Where a program runs it, and
in a saved notebook, a plain table stands in their place, so no widget state is needed. What the
keyboard and screen readers can do with them is in `shared`.
"""

from llmcourse.widgets.ballot import CHOICES, Ballot, Pair
from llmcourse.widgets.chat import Chat, Talk
from llmcourse.widgets.errors import ErrorBrowser, Mistakes
from llmcourse.widgets.monitor import Training, TrainingMonitor
from llmcourse.widgets.playground import TemplatePlayground
from llmcourse.widgets.reviewer import PairReview
from llmcourse.widgets.shared import is_live
from llmcourse.widgets.tokens import TokenExplorer
from llmcourse.widgets.vote import BlindVote

__all__ = [
    "CHOICES", "Ballot", "BlindVote", "Chat", "ErrorBrowser", "Mistakes", "Pair", "PairReview",
    "Talk", "TemplatePlayground", "TokenExplorer", "Training", "TrainingMonitor", "is_live",
]  # fmt: skip
