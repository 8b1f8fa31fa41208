"""The interface that the course's notebooks of 2023 expect, on today's libraries.

`llmcourse.llama` hands its names on. Only `install` and `python -m llmcourse notebook` change
anything outside of this package: `sys.modules`, transformers, datasets and the notebook's kernel.
"""
