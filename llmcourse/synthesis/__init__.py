"""Letting a model write the training data, and keeping only what passes.

Two ways: questions and answers about documents, and new instructions in the style of seed tasks
(Self-Instruct, Wang et al., 2023, which Alpaca's data were made by). A small model writes much that
is useless. So everything goes through filters, and what was rejected is kept with its reason.
"""

from llmcourse.synthesis.documents import questions_from_documents, sentences, topic
from llmcourse.synthesis.filters import (
    Pool,
    Synthesis,
    answer_trouble,
    groundedness,
    instruction_trouble,
)
from llmcourse.synthesis.instructions import self_instruct
