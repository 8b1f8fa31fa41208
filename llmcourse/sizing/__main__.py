"""`python -m llmcourse.sizing` prints the tables of docs/scaling.md, in Markdown."""

import sys

from llmcourse.sizing import fsdp_table, markdown, table

# Windows' console may have another encoding, in which "×" can't be written.
sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
print(markdown(table()), markdown(fsdp_table()), sep="\n\n")
