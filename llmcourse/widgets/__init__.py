"""Things to use in a notebook, which read well without a front end too.

`BlindVote` takes votes between two models' answers, `Chat` asks two models side by side,
`TokenExplorer` and `TemplatePlayground` show what a model reads, `TrainingMonitor` shows a training
while it runs, `ErrorBrowser` sorts and relabels mistakes, and `PairReview` goes through pairs that
a model wrote. Where a person runs the notebook, there are controls. Where a program runs it, and
in a saved notebook, there is a plain table instead, so no widget state is needed. What the
keyboard and screen readers can do with them is said in `llmcourse.ui`.
"""

from llmcourse.widgets.chat import Chat
from llmcourse.widgets.errors import ErrorBrowser
from llmcourse.widgets.monitor import TrainingMonitor
from llmcourse.widgets.reviewer import PairReview
from llmcourse.widgets.tokens import TemplatePlayground, TokenExplorer
from llmcourse.widgets.vote import CHOICES, BlindVote
