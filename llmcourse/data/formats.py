"""The formats that question-and-answer data come in, each brought to the fields of our own.

A row of any format becomes one with a question and an answer, with `messages` (a conversation's
turns), or with a `text`. The table below names what each format is recognised by.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmcourse import turns
from llmcourse.templates import FIELDS, is_blank, listed

# Schema -> our column: the field it is read from. The first schema whose fields a record has is
# taken: the usual pairs of names, the other pairs, then names that may mean something else too.
_USUAL = ("question/answer", "instruction/response", "instruction/output", "prompt/completion")
_PAIRS = (f"{question}/{answer}" for question in FIELDS["question"] for answer in FIELDS["answer"])
SCHEMAS: dict[str, dict[str, str]] = {
    **{
        name: dict(zip(("question", "answer"), name.split("/"), strict=True))
        for name in dict.fromkeys((*_USUAL, *_PAIRS))
    },
    "input/output": {"question": "input", "answer": "output"},
    "messages": {"messages": "messages"},
    "text": {"text": "text"},
}
# Other pairs of names are read as question and answer, but only where a record has both.
OTHER_PAIRS = """
    query/answer query/response inputs/targets q/a human/assistant user/assistant human/bot user/bot
    problem/solution source/target front/back input/target input/response input/answer
    question/reply
    frage/antwort question/réponse pregunta/respuesta domanda/risposta pergunta/resposta
    vraag/antwoord fråga/svar pytanie/odpowiedź soru/cevap вопрос/ответ питання/відповідь
    سؤال/جواب प्रश्न/उत्तर 问题/答案 问题/回答 質問/回答 질문/답변
""".split()  # noqa: SIM905 (a list would be far longer)
CONVERSATIONS = (
    "messages conversations conversation dialogue dialog turns contents chat data".split()  # noqa: SIM905
)
_ALIASES = {
    **dict.fromkeys(("system_prompt", "system_message", "systeminstruction"), "system"),
    **dict.fromkeys(("chat_history", "conversation_history"), "history"),
}
_KNOWN = {*itertools.chain(*FIELDS.values()), *CONVERSATIONS, *_ALIASES, *_ALIASES.values()}
_KNOWN |= {"text", "chosen", "rejected", "answers", "keep", "split", "keys"}
_KNOWN |= {name for pair in OTHER_PAIRS for name in pair.split("/")}
_NAMES = {  # of a form of turns, or a schema
    "turns with from and value": "ShareGPT conversations",
    "turns with role and content": "conversations in OpenAI's form (role, content)",
    "turns with role and parts": "conversations in Gemini's form (role, parts)",
    "texts by turns": "LIMA's lists of texts by turns",
    "pairs": "conversations as pairs",
    "instruction/output": "Alpaca (instruction/output)",
    "text": "texts",
}
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant): ")
_REJECTED = "the chosen answer is taken; the rejected one is kept as a column, not trained on"
_SEVERAL = "of several answers the first is taken"


class Invalid(Exception):
    """A field, and what is wrong with it."""


def plain_name(name: Any) -> Any:
    """The name of a field without case, blanks and marks around it."""
    if not isinstance(name, str):
        return name
    return re.sub(r"[\s_-]+", "_", name.strip(" \t\r\n\ufeff:*?#.").casefold())


def renamed(row: Mapping[Any, Any], fields: Mapping[str, str] | None = None) -> dict[Any, Any]:
    """`row` with its fields called as we call them, where only case and blanks differ.

    Args:
        row: A record.
        fields: Our name -> the field that is meant by it.

    Raises:
        Invalid: a question's, answer's or text's field is not there.
    """
    meant = {}
    for ours, theirs in (fields or {}).items():
        alike = (name for name in row if plain_name(name) == plain_name(theirs))
        name = theirs if theirs in row else next(alike, None)
        if name is not None:
            meant[name] = ours
        elif ours in ("question", "answer", "text", "messages"):
            raise Invalid(theirs, f"missing (there are: {listed(row) or 'none'})")
    found: dict[Any, Any] = {}
    for name, value in row.items():
        plain = _ALIASES.get(plain_name(name), plain_name(name))
        if name in meant:
            found[meant[name]] = value
        elif name in meant.values():  # another field of the learner's is called like it
            found[f"{name} (not used)"] = value
        else:
            free = plain in _KNOWN and plain not in row and plain not in found
            found[plain if free and plain not in meant.values() else name] = value
    return found


def schema_of(row: Mapping[str, Any]) -> str | None:
    """The first schema whose fields a row has."""
    return next((n for n, fields in SCHEMAS.items() if row.keys() >= set(fields.values())), None)


def is_known(names: Iterable[Any]) -> bool:
    """Whether a row with these fields has a format."""
    fields = renamed(dict.fromkeys(names)).keys()
    pairs = (set(pair.split("/")) for pair in OTHER_PAIRS)
    more = any(name in fields for name in (*CONVERSATIONS, "chosen"))
    return bool(schema_of(dict.fromkeys(fields))) or more or any(pair <= fields for pair in pairs)


def unified(
    row: Any, schema: str | None = None, fields: Mapping[str, str] | None = None
) -> tuple[str, dict[str, Any], list[str]]:
    """The name of a row's format, the row with our fields, and notes on what was made of it.

    Args:
        row: As it was read.
        schema: What was chosen; only a conversation's fields are looked into then.
        fields: See `renamed`.

    Raises:
        Invalid: it has a problem.
    """
    if isinstance(row, list | tuple) and (turns.is_conversation(row) or _is_texts(row)):
        row = {"messages": row}
    if not isinstance(row, Mapping):
        raise Invalid("", f"an object belongs here, not {type(row).__name__}")
    row = renamed(row, fields)
    if schema not in (None, "messages"):
        return schema or "", row, []
    for read in (_rated, _tree, _preference, _conversation, _answers, _other_pair):
        found = read(row)
        if found is not None:
            return found
    name = schema_of(row) or ""
    if name == "question/response" and "system" in row:
        name = "Orca (system_prompt/question/response)"
    return _NAMES.get(name, name), row, []


Found = tuple[str, dict[str, Any], list[str]] | None


def _is_texts(value: Any) -> bool:
    return len(value) > 1 and all(isinstance(one, str) for one in value)


def _without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _as_turns(value: Any, role: str) -> list[Any]:
    """A list of turns, one turn, or the text of the `role`."""
    if isinstance(value, str) and not (role == "user" and value.lstrip().startswith("[{")):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return value.get("messages", [value])
    if isinstance(value, list | tuple):
        return list(value)
    return turns.read(value) if isinstance(value, str) else [{"role": role, "content": value}]


def _read(field: str, value: Any, row: Mapping[str, Any], *used: str, name: str = "") -> Found:
    """A conversation as `messages`, cut behind the last answer that is trained on."""
    try:
        read = turns.read(value, row.get("system"))
    except (ValueError, RecursionError) as error:
        raise Invalid(field, str(error)) from error
    notes = list(dict.fromkeys(read.notes))
    kept = len(read)
    while kept and (read[kept - 1]["role"] != "assistant" or "weight" in read[kept - 1]):
        kept -= 1
    if kept < len(read):
        notes.append("turns behind the last answer that is trained on are not used")
    read[kept:] = []
    if not kept:
        raise Invalid(field, "there is no answer of the assistant to train on")
    name = name or _NAMES.get(read.form, f"conversations of {read.form}")
    return name, {**_without(row, field, "system", *used), "messages": read}, notes


def _conversation(row: Mapping[str, Any]) -> Found:
    pair = SCHEMAS.get(schema_of(row) or "", {})
    if "question" in pair:
        question, answer = row[pair["question"]], row[pair["answer"]]
        if turns.is_conversation(question) or turns.is_conversation(answer):
            field = pair["question"]
            both = [*_as_turns(question, "user"), *_as_turns(answer, "assistant")]
            return _read(field, both, row, pair["answer"], name="TRL's conversational records")
        return None
    for field in CONVERSATIONS:
        value = row.get(field)
        is_list = isinstance(value, list | tuple) and bool(value)
        is_json = isinstance(value, str) and value.lstrip().startswith("[")
        needed = field == "messages" and field in row  # named so, it is nothing else
        if needed or ((is_list or is_json) and (field != "data" or _is_texts(value))):
            return _read(field, value, row)
    return None


def _preference(row: Mapping[str, Any]) -> Found:
    if "preferred_output" in row:  # OpenAI's
        row = _without(row, "input", "preferred_output", "non_preferred_output") | {
            "messages": row.get("input"),
            "chosen": row["preferred_output"],
            "rejected": row.get("non_preferred_output"),
        }
    if not {"chosen", "rejected"} <= row.keys():
        return None
    names = (*FIELDS["question"], *CONVERSATIONS)
    field = next((name for name in names if not is_none(row.get(name))), "")
    chosen = row["chosen"]
    if isinstance(chosen, str) and not field:
        pieces = _TRANSCRIPT.split(chosen)  # ["", "Human", text, "Assistant", text, …]
        if len(pieces) < 5:
            raise Invalid("chosen", "there is no prompt beside it")
        chosen = [
            {"role": role, "content": text.strip()}
            for role, text in zip(pieces[1::2], pieces[2::2], strict=True)
        ]
    said = _as_turns(chosen, "assistant")
    if len(said) < 2:  # the answer alone; else the prompt is in it
        said = [*_as_turns(row.get(field), "user"), *said]
    done = _read("chosen", said, row, field, name="preference records")
    return done and (*done[:2], [*done[2], _REJECTED])


def _rated(row: Mapping[str, Any]) -> Found:
    """Answers that were rated as bad (unpaired preference, KTO) are not trained on."""
    rating = row.get("kto_tag", row.get("label") if "completion" in row else None)
    if rating is False:
        raise Invalid("label", "the answer was rated as bad, so it is not trained on")
    return None


def _tree(row: Mapping[str, Any]) -> Found:
    """OASST: the best-ranked reply to each message, down to the last answer."""
    node = row.get("prompt")
    if not isinstance(node, Mapping) or "text" not in node:
        return None
    path = [node]
    while replies := [reply for reply in node.get("replies") or () if not reply.get("deleted")]:
        ranks = ((reply.get("rank"), number) for number, reply in enumerate(replies))
        node = replies[min((n if rank is None else rank, n) for rank, n in ranks)[1]]
        path.append(node)
    said = [{"role": one.get("role"), "content": one["text"]} for one in path]
    done = _read("prompt", said, row, name="OASST trees")
    return done and (*done[:2], [*done[2], "of each tree the best-ranked path is taken"])


def _answers(row: Mapping[str, Any]) -> Found:
    """SQuAD and its like: several answers, of which the first is taken."""
    name = next((n for n in ("answers", *FIELDS["answer"]) if not is_none(row.get(n))), "")
    value = row.get(name)
    asked = any(field in row for field in FIELDS["question"])
    if not asked or isinstance(value, str) or not isinstance(value, Mapping | list):
        return None
    texts = value.get("text", value.get("value")) if isinstance(value, Mapping) else value
    texts = texts if isinstance(texts, list) else [texts]
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in texts]
    if not texts and name == "answers":
        raise Invalid(name, "there is none: the passage has no answer to the question")
    if not texts or not all(isinstance(one, str) for one in texts):
        return None
    notes = [_SEVERAL] if len(set(texts)) > 1 else []
    form = "SQuAD (context, question, answers)" if name == "answers" else "lists of answers"
    return form, {**_without(row, name), "answer": texts[0]}, notes


def _other_pair(row: Mapping[str, Any]) -> Found:
    if schema_of(row) in (None, "text"):
        for pair in OTHER_PAIRS:
            question, answer = pair.split("/")
            if {question, answer} <= row.keys():
                both = {"question": row[question], "answer": row[answer]}
                return pair, {**both, **_without(row, question, answer)}, []
    return None


def is_none(value: Any) -> bool:
    """True for nothing at all."""
    return value is None or (isinstance(value, str) and is_blank(value))


# --- what holds several rows ----------------------------------------------------------------------


def unwrapped(value: Any) -> Iterator[Any]:
    """The rows in a JSON value, whatever holds them: a list, parts, columns, SQuAD's articles."""
    parts = isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value)
    if parts and not turns.is_conversation(value):
        for one in value:
            if isinstance(one, Mapping):
                yield from unwrapped(one)
            else:
                yield one
    elif isinstance(value, Mapping) and isinstance(value.get("paragraphs"), list):
        title = {"title": value["title"]} if "title" in value else {}
        for paragraph in value["paragraphs"]:
            for question in paragraph["qas"]:
                more = _without(question, "question", "answers")
                both = {"question": question["question"], "answers": question.get("answers", [])}
                yield {"context": paragraph["context"], **both, **title, **more}
    elif isinstance(value, Mapping) and (rows := _held(value)) is not None:
        yield from rows
    else:
        yield value


def _held(value: Mapping[str, Any]) -> Iterator[Any] | None:
    """The rows that a mapping holds in parts or columns; None where it is a row."""
    parts, keys = list(value.values()), {plain_name(name) for name in value}
    pair = schema_of(dict.fromkeys(keys)) not in (None, "text", "messages")
    pair = pair or any(keys >= set(both.split("/")) for both in OTHER_PAIRS)
    columns = all(isinstance(p, list) and not turns.is_conversation(p) for p in parts)
    if pair and columns and len({len(p) for p in parts}) == 1:  # {"question": […], …}
        return (dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True))
    if pair and all(isinstance(p, Mapping) for p in parts):  # pandas' {"question": {"0": …}, …}
        return ({name: value[name].get(n) for name in value} for n in parts[0])
    others = {"answers", "chosen", "preferred_output", "prompt", "text"}
    if keys & ({*CONVERSATIONS, *others} - {"data"}) or pair or not parts:
        return None
    if all(isinstance(part, Mapping) for part in parts):  # {"first": {…}, …}
        return iter(parts)
    lists = {
        name: part
        for name, part in value.items()
        if isinstance(part, list) and part and all(isinstance(one, Mapping | list) for one in part)
    }
    if len(lists) > 1:  # {"train": […], "test": […]}
        return ({"split": name, **row} for name, part in lists.items() for row in unwrapped(part))
    if not lists:
        return None
    # what stands beside the one list is true of each row in it, as an instruction of its instances
    [(name, part)] = lists.items()
    beside = _without(value, name)
    return ({**beside, **row} if isinstance(row, Mapping) else row for row in unwrapped(part))


def threaded(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """`rows`; where they are OASST's messages one by one, the trees that they make up."""
    rows = iter(rows)
    first = next(rows, (0, None))
    names = {"message_id", "parent_id", "text", "role"}
    if not (isinstance(first[1], Mapping) and names <= first[1].keys()):
        yield from itertools.chain([first] if first[0] or first[1] else [], rows)
        return
    nodes: dict[Any, tuple[int, dict[str, Any]]] = {}
    for line, row in itertools.chain([first], rows):
        if isinstance(row, Mapping) and names <= row.keys():
            nodes[row["message_id"]] = line, {**row, "replies": []}
        else:
            yield line, row
    roots = []
    for line, node in nodes.values():
        if parent := nodes.get(node["parent_id"]):
            parent[1]["replies"].append(node)
        else:
            roots.append((line, {"prompt": node, "message_tree_id": node.get("message_tree_id")}))
    yield from roots
