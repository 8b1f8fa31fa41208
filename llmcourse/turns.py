"""Conversations in whatever form people keep them, as turns of system, user and assistant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

ROLES = ("system", "user", "assistant")
# Who speaks, by the names that formats have for it. What a tool gave back is read as the user's,
# as it comes from outside the model.
_SPEAKERS = {
    "system": "system developer context",
    "user": "user human prompter customer person tool function observation ipython "
    "function_response tool_response",
    "assistant": "assistant gpt model bot chatbot ai chatgpt bing bard claude agent "
    "function_call tool_call",
}
_ROLE = {name: role for role, names in _SPEAKERS.items() for name in names.split()}
_TOOLS = _SPEAKERS["user"].split()[5:]
_ROLE_KEYS = ("role", "from", "author", "speaker", "sender")
_CONTENT_KEYS = ("content", "value", "text", "parts", "message", "utterance")
_PAIRS = (  # of a turn that holds the question and the answer
    "human/assistant user/assistant input/output question/answer prompt/response"
    " instruction/output user/bot"
)
_PAIR_KEYS = [pair.split("/") for pair in _PAIRS.split()]
_CALLS = ("tool_calls", "function_call")
# What says whether a turn is trained on: OpenAI's and Mistral's, axolotl's, others'.
_WEIGHTS = ("weight", "train", "training", "loss")
_SILENT = (*_ROLE_KEYS, *_CONTENT_KEYS, *_CALLS, *_WEIGHTS)


class Turns(list[dict[str, Any]]):
    """Turns of a conversation, each {"role": …, "content": …}.

    An assistant's turn that is not to be trained on has "weight": 0 as well.

    Attributes:
        form: The form that they had.
        notes: What of it was read in a way that one should know, or not used.
    """

    def __init__(self, form: str = "turns") -> None:
        super().__init__()
        self.form = form
        self.notes: list[str] = []

    def say(self, role: str, content: str, weight: Any = None) -> None:
        """Add a turn; to one of the same role it is added as a paragraph."""
        last = self[-1] if self else {}
        skipped = {"weight": 0} if role == "assistant" and weight is not None and not weight else {}
        if last.get("role") == role and last.get("weight") == skipped.get("weight"):
            last["content"] += f"\n\n{content}"
            self.notes.append("several turns of one role in a row are read as one")
        else:
            self.append({"role": role, "content": content, **skipped})

    def record(self) -> dict[str, Any]:
        """Question, answer and history: the last turn of the user, the answer to it, the others.

        The answer is "" where the user has the last word.

        Raises:
            ValueError: the user says nothing.
        """
        turns = list(self)
        answer = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
        if not turns or turns[-1]["role"] != "user":
            raise ValueError("no turn of the user comes before the last answer")
        question = turns.pop()["content"]
        return {"question": question, "input": "", "answer": answer, "history": turns}


def is_conversation(value: Any) -> bool:
    """True for a list of turns that say who speaks."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(turn, Mapping) and _first(turn, _ROLE_KEYS) for turn in value)
    )


def read(value: Any, system: Any = None) -> Turns:
    """The turns of a conversation.

    Args:
        value: A list of turns (with a role and content, or with question and answer), of pairs
            (question, answer) or of texts by turns; or such a list as JSON, as a cell of a table
            has it. Nothing is no turn.
        system: A system text, put first.

    Raises:
        ValueError: it has no form that is known; the message says what does not fit.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json.loads(value)
    if hasattr(value, "tolist"):  # an array, as pandas has it from a .parquet file
        value = value.tolist()
    if value in (None, "") or value != value:
        value = []
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of turns belongs here, not {type(value).__name__}")
    turns = Turns()
    if system := _content(system, turns):
        turns.say("system", system)
    for number, turn in enumerate(value):
        if isinstance(turn, str):
            turns.form = "texts by turns"
            turns.say(ROLES[1 + number % 2], turn)
        elif isinstance(turn, list | tuple) and len(turn) == 2:
            turns.form = "pairs"
            for role, content in zip(ROLES[1:], turn, strict=True):
                turns.say(role, _content(content, turns))
        elif isinstance(turn, Mapping):
            _say(turns, turn)
        else:
            raise ValueError(f"turn {number + 1} is {type(turn).__name__}, not text with a role")
        for said in turns[-2:]:
            if not said["content"].strip("\u200b\ufeff \n\t"):
                raise ValueError(f"turn {number + 1} is blank")
    return turns


def _say(turns: Turns, turn: Mapping[str, Any]) -> None:
    """Add what a mapping says."""
    role_key, key = _first(turn, _ROLE_KEYS), _first(turn, _CONTENT_KEYS)
    pair = next((keys for keys in _PAIR_KEYS if turn.keys() >= set(keys)), None)
    if not role_key and pair:
        turns.form = f"turns with {' and '.join(pair)}"
        if system := _content(turn.get("system"), turns):
            turns.say("system", system)
        for role, name in zip(ROLES[1:], pair, strict=True):
            turns.say(role, _content(turn[name], turns))
        return
    name = str(turn.get(role_key)).strip().casefold().replace(" ", "_").replace("-", "_")
    if name not in _ROLE:
        raise ValueError(
            f"a turn needs a role and its text; its fields are {', '.join(map(str, turn)):.80}"
            if not role_key
            else f"no role is called {name!r:.40}; there are: {', '.join(_ROLE)}"
        )
    calls = next((turn[name] for name in _CALLS if turn.get(name)), None)
    content = _content(turn.get(key), turns) if key else ""
    if calls:
        turns.notes.append("calls of tools are read as JSON text")
        content = f"{content}\n{json.dumps(calls, ensure_ascii=False)}".strip()
    if name in _TOOLS:
        turns.notes.append("what tools gave back is read as the user's turns")
    for other in turn.keys() - set(_SILENT):
        if turn[other] not in (None, "", [], {}):
            turns.notes.append(f"the field {other!r} of turns is not used")
    turns.form = f"turns with {role_key} and {key or 'content'}"
    weight = next((turn[name] for name in _WEIGHTS if turn.get(name) is not None), None)
    if content or _ROLE[name] != "system":
        turns.say(_ROLE[name], content, weight)


def _content(value: Any, turns: Turns) -> str:
    """The text of a turn, whose content may be in parts.

    Raises:
        ValueError: it holds something else than text.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if value.get("type") in ("thinking", "reasoning"):
            turns.notes.append("thoughts are not used")
            return ""
        name = _first(value, (*_CONTENT_KEYS, "refusal"))
        if name:
            return _content(value[name], turns)
        kind = value.get("type", ", ".join(map(str, value)))
        raise ValueError(f"a part of the kind {kind!r:.60} is no text; only text can be read")
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return "\n".join(filter(None, (_content(part, turns) for part in value)))
    raise ValueError(f"text belongs here, not {type(value).__name__}")


def _first(turn: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of `names` that `turn` has; "" for none."""
    return next((name for name in names if name in turn), "")
