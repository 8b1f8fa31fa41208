"""How much memory and arithmetic a model needs, from its configuration alone.

    size = sizing.Size.of("llama-2-7b")
    size.training_bytes("lora").total / 1e9          # GB
    size.seconds(1e6, sizing.HARDWARE["A100 80 GB"])  # for a million tokens

`python -m llmcourse.sizing` prints the tables of docs/scaling.md, where the formulas are.
"""

from llmcourse.sizing.size import (
    HARDWARE,
    KNOWN,
    METHODS,
    SCORE_BYTES,
    SHOWN,
    Hardware,
    Memory,
    Size,
)
from llmcourse.sizing.tables import (
    FSDP,
    considerations,
    customers,
    fsdp_table,
    markdown,
    table,
)
