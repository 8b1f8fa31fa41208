"""Helpers for the companion to the short course "Finetuning Large Language Models".

Nothing heavy is imported here: torch and transformers load when a function first needs them.
"""

__version__ = "0.2.0"
