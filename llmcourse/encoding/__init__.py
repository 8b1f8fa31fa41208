"""From records to what a model trains on: token ids, labels, padded batches.

A label of -100 is not trained on: the prompt has it, so that the model learns to answer and not to
ask (`torch.nn.CrossEntropyLoss` leaves that number out by default). Prompt and completion are
tokenized apart and joined. So the border between them falls between two tokens, and the prompt's
ids are the very ones that `generation.generate` sends. The price: where a tokenizer would have
merged the prompt's last character with the completion's first into one token, the joined ids differ
from those of both texts in one go. That is meant: when the model answers, the prompt is all
there is, and no such merge can happen.

Records are counted from 0 throughout, as rows of a data set are.
"""

from llmcourse.encoding.records import (
    TOO_LONG,
    UNTRAINED,
    Collator,
    Encoded,
    batches_by_length,
    encode,
    padding_share,
)
from llmcourse.encoding.tokens import end_ids, prompt_ids, tokenized
