"""`python -m llmcourse.sizing` prints the tables of docs/scaling.md, in Markdown."""

import sys

from llmcourse.sizing import fsdp_table, markdown, table

sys.stdout.reconfigure(encoding="utf-8")
print(markdown(table()), markdown(fsdp_table()), sep="\n\n")
