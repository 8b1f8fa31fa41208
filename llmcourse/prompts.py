"""The prompts that the claims of lesson 1 are measured on, written for this course.

No instruction ends in punctuation: so a reader sees at once whether a model answers it or
writes its sentence on. The tiers take the first few, so each list starts with the course's
own subjects and then varies. The texts are in `prompts.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

_TEXTS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

INSTRUCTIONS: tuple[str, ...] = tuple(_TEXTS["instructions"])
QUESTIONS: tuple[str, ...] = tuple(_TEXTS["questions"])
SUPPORT_DIALOGUE: str = _TEXTS["support_dialogue"]
