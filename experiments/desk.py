"""Structured output: customers' messages, and the JSON that an order desk needs of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.run import Arm, Record, Run, Values, every, larger, result
from llmcourse import company, templates
from llmcourse.evaluation import Method
from llmcourse.finetuning import Config
from llmcourse.generation import generate
from llmcourse.models import LoadedModel

FIELDS = ("order", "product", "problem", "urgency", "request")
CHOICES = {
    "product": ("Ambra", "Corvo", "Hearthling", "Linnet", "Pellow", "Sable", "Toller", "Wren"),
    "problem": ("late", "damaged", "faulty", "wrong item", "missing part", "billing"),
    "urgency": ("high", "low"),
    "request": ("refund", "replacement", "spare part", "repair", "cancel", "change", "information"),
}
LONGEST = 64  # tokens; the longest right answer has 51 with the chat model's tokenizer
SCHEMA = (
    "Read the customer's message and write JSON with these keys; null where the message does not "
    "say:\n"
    '"order": the order number, as FW-00000-X\n'
    + "\n".join(f'"{name}": one of {", ".join(choices)}' for name, choices in CHOICES.items())
    + "\nWrite nothing but the JSON."
)


def messages(split: str) -> list[Record]:
    """The messages of a split, with the JSON as the answer."""
    return [
        {"question": r["message"], "answer": json.dumps({name: r[name] for name in FIELDS})}
        for r in company.records("messages", split)
    ]


def scores(text: str, wanted: Mapping[str, Any]) -> dict[str, float]:
    """Whether a text is a JSON object, all its fields are right, and which share of them is."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {"valid": 0.0, "all right": 0.0, "fields right": 0.0}
    same = [name in found and found[name] == wanted[name] for name in FIELDS]
    return {
        "valid": 1.0,
        "all right": float(all(same) and set(found) == set(FIELDS)),
        "fields right": sum(same) / len(same),
    }


def measured(
    answer: Callable[[Sequence[Record]], Sequence[str]], records: Sequence[Record]
) -> Values:
    """The scores of the texts that `answer` gives."""
    texts = list(answer(records))
    each = [scores(t, json.loads(r["answer"])) for t, r in zip(texts, records, strict=True)]
    values: Values = {name: [found[name] for found in each] for name in each[0]}
    return {**values, "answers": texts}


# --- without training -----------------------------------------------------------------------------

_ORDER = r"fw\W{0,2}(\d{5})\W{0,2}([a-z])\b"
# An hour's work on the training messages; the first pattern that is found gives the value.
_PATTERNS = {
    "product": {
        "Ambra": r"ambra|kettle",
        "Corvo": r"corvo|duster|robot",
        "Hearthling": r"hearthling|heater",
        "Linnet": r"linnet|lamp|shade",
        "Pellow": r"pellow|filter|jug|cartridge",
        "Sable": r"sable|mixer|beater|whisk|sm-4",
        "Toller": r"toller|oven|baking stone",
        "Wren": r"wren|doorbell|door bell|chime",
    },
    "problem": {
        "wrong item": r"wrong (colou?r|lamp|parcel|one|plug|item)|instead of|ordered .{1,40} got "
        r"|don.t fit|two colours",
        "missing part": r"missing|not in the (box|bag|parcel)|short of a|forgot|didn.t get the",
        "billing": r"invoice|charged|discount|surcharge|owe|\bpaid|my \d+ crowns|have refunded",
        "late": r"still waiting|waited|not (been sent|arrived|come)|hasn.?t (arrived|come)|stolen"
        r"|where.?s my|got lost|day \d|have been waiting|\"packed\"|in preparation",
        "damaged": r"broken|crack|bent|torn|dent|scratch|chip|snapped|shatter|smash|damage|soaked"
        r"|in pieces|fell|eaten|snow|cross-thread|washed",
        "faulty": r"does ?n.?o?t (do|work|turn|start|heat|charge|go)|stopped|won.?t|fault|leak"
        r"|no longer|switches itself|dead\b|squeal|loose|trips|smell|offline|drip|dribbl|stays red"
        r"|glows|gets warm|on fire|runs fast|shorter|stumbles",
    },
    "urgency": {
        "low": r"no (hurry|rush)|any ?time|whenever|take your time|not urgent|any day|i can wait"
        r"|convenience|one day|not thirsty|otherwise|so fast",
        "high": r"urgent|asap|hurry|at once|immediately|tomorrow|(by|this|on|for|need it) "
        r"(mon|tues|wednes|thurs|fri|satur|sun)day|smok|shock|burn|danger|as soon as",
    },
    "request": {
        "spare part": r"spare|a single|(another|new|just have a) (wheel|remote|lid|foot|manual)"
        r"|screw|replacement foot|a magnet|how do i get|have the ones",
        "refund": r"refund|money|send it back|what i paid|my \d+ crowns",
        "cancel": r"cancel|should not be delivered",
        "repair": r"repair|mend|fix|inspect|look at it|put right",
        "replacement": r"replace|new one|another|exchange|send it again|working \w+ by|safe one"
        r"|different|clean \w+ one",
        "change": r"change|put (this|it) right|correct|add a|make it|hold back|should be|address"
        r"|packed in|sent on the",
        "information": r"\?|tell me|let me know",
    },
}


def by_rules(records: Sequence[Record]) -> list[str]:
    """What regular expressions read in each message."""

    def first(patterns: Mapping[str, str], text: str) -> str | None:
        return next((name for name, p in patterns.items() if re.search(p, text)), None)

    found = []
    for record in records:
        text = record["question"].lower()
        order = re.search(_ORDER, text)
        row = {
            "order": f"FW-{order[1]}-{order[2].upper()}" if order else None,
            **{name: first(patterns, text) for name, patterns in _PATTERNS.items()},
        }
        found.append(json.dumps(row))
    return found


def examples(count: int = 3) -> list[Record]:
    """Training messages for the prompt, of many kinds: those with the most fields, spread out."""
    rows = messages("train")
    full = sorted(rows, key=lambda r: r["answer"].count("null"))[: 4 * count]
    return full[:: len(full) // count][:count]


def zero_shot(record: Record) -> str:
    """The schema and the message."""
    return f"{SCHEMA}\n\nMessage: {record['question']}\nJSON:"


def few_shot(record: Record) -> str:
    """The schema, three messages with their JSON, and the message."""
    shown = "".join(f"\n\nMessage: {r['question']}\nJSON: {r['answer']}" for r in examples())
    return f"{SCHEMA}{shown}\n\nMessage: {record['question']}\nJSON:"


def prompted(model: LoadedModel, prompt: Callable[[Record], str]) -> Callable:
    """Answers of an untuned model, cut after the first closing brace, as any engineer would."""

    def answer(records: Sequence[Record]) -> list[str]:
        found = generate(
            model, [prompt(r) for r in records], max_new_tokens=LONGEST + 16, progress=False
        )
        return [_object(a.text) for a in found]

    return answer


def _object(text: str) -> str:
    """The first JSON object in a text, or the text."""
    match = re.search(r"\{.*?\}", text, flags=re.DOTALL)
    return match[0] if match else text.strip()


def constrained(model: LoadedModel) -> Callable:
    """Few-shot with constrained decoding: the model chooses among values that the schema allows.

    The form is given, field by field; at each token only those stay possible that begin an allowed
    value (for the order: a number that stands in the message). So every answer is valid JSON, and
    what is measured is the choice.
    """
    tokenizer = model.tokenizer

    def answer(records: Sequence[Record]) -> list[str]:
        return [one(record) for record in records]

    def one(record: Record) -> str:
        numbers = re.findall(_ORDER, record["question"].lower())
        allowed = {
            "order": [f"FW-{digits}-{letter.upper()}" for digits, letter in numbers],
            **CHOICES,
        }
        rendered = templates.render(few_shot(record), model.template, tokenizer=tokenizer)
        text, written = rendered.prompt, "{"
        for name in FIELDS:
            options = [json.dumps(value) for value in dict.fromkeys(allowed[name])] + ["null"]
            start = f'{", " if written != "{" else ""}"{name}": '
            written += start + _likeliest(model, text + written + start, options)
        return written + "}"

    return answer


def _likeliest(model: LoadedModel, text: str, options: Sequence[str]) -> str:
    """The option that the model writes after `text` when it may write nothing else."""
    import torch

    tokenizer = model.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    # A comma or brace ends each option, so that none is the beginning of another one.
    tails = [tokenizer(f"{option},", add_special_tokens=False)["input_ids"] for option in options]

    def next_tokens(_: int, so_far: torch.Tensor) -> list[int]:
        done = so_far[len(ids) :].tolist()
        return sorted(
            {
                tail[len(done)]
                for tail in tails
                if tail[: len(done)] == done and len(tail) > len(done)
            }
        ) or [tokenizer.eos_token_id]

    out = model.model.generate(
        torch.tensor([ids], device=model.device),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=model.device),
        max_new_tokens=max(map(len, tails)),
        do_sample=False,
        prefix_allowed_tokens_fn=next_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = out[0, len(ids) :].tolist()
    return next(o for o, tail in zip(options, tails, strict=True) if written[: len(tail)] == tail)


# --- claims ---------------------------------------------------------------------------------------


def tuned(run: Run, name: str, model: str = "chat", share: float = 1.0, **settings: Any) -> Arm:
    """A model trained on the messages, or on a part of them."""

    def make(seed: int) -> Callable:
        records = messages("train")
        records = records[: max(2, round(share * len(records)))]
        # 500 messages, six at a time, are seen three times in 250 updates.
        steps = round(run.size.updates * 250 / 300)
        config = Config(**{"steps": steps, "seed": seed, **settings})
        trained = run.tuned(name, records, config, getattr(run, model))

        def answer(asked: Sequence[Record]) -> list[str]:
            method = Method(trained)
            found = generate(
                method.model, [r["question"] for r in asked], max_new_tokens=LONGEST, progress=False
            )
            return [a.text.strip() for a in found]

        return answer

    return Arm(name, make)


def structured_output(run: Run) -> dict[str, Any]:
    """Rules, prompts, constrained decoding and tuning on the same messages."""
    arms = {
        "rules": Arm("rules", lambda _: by_rules, trained=False),
        "zero-shot": Arm("desk, zero-shot", lambda _: prompted(run.chat, zero_shot), trained=False),
        "few-shot": Arm("desk, few-shot", lambda _: prompted(run.chat, few_shot), trained=False),
        "few-shot, constrained": Arm(
            "desk, constrained", lambda _: constrained(run.chat), trained=False
        ),
        "tuned chat": tuned(run, "desk, tuned chat"),
        "tuned base": tuned(run, "desk, tuned base", "base"),
    }
    records = messages("test")[: run.size.questions]
    found = {name: run.values(arm, "messages", records, measured) for name, arm in arms.items()}
    values = {
        f"{name}: {metric}": each[metric]
        for name, each in found.items()
        for metric in ("valid", "all right", "fields right")
    }
    others = [name for name in arms if not name.startswith("tuned")]
    pairs = [
        (f"tuned chat: {metric}", f"{name}: {metric}")
        for metric in ("all right", "fields right")
        for name in others
    ]
    return result(
        "structured-output",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs[: len(others)])),
        measured="share of answers that are valid JSON, that have all five fields right, and share "
        "of fields that are right",
        setting="the same messages; prompts have the schema, and few-shot three examples",
        notes="Holds: tuned, all five fields are right more often than by every other way.",
    )


def data_amount(run: Run) -> dict[str, Any]:
    """A quarter, half and all of the training messages, for the same number of updates."""
    arms = {
        "25 %": tuned(run, "desk, a quarter", share=0.25),
        "50 %": tuned(run, "desk, half", share=0.5),
        "100 %": tuned(run, "desk, tuned chat"),
    }
    records = messages("test")[: run.size.questions]
    values = {
        f"{name}: {metric}": each[metric]
        for name, arm in arms.items()
        for each in [run.values(arm, "messages", records, measured)]
        for metric in ("all right", "fields right")
    }
    pairs = [
        ("100 %: fields right", "25 %: fields right"),
        ("100 %: fields right", "50 %: fields right"),
        ("100 %: all right", "25 %: all right"),
    ]
    return result(
        "data-amount",
        run,
        values,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of the fields that are right, and of answers with all five right",
        setting=f"25, 50 or 100 % of {len(messages('train'))} messages, the same number of updates",
    )


CLAIMS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "structured-output": structured_output,
    "data-amount": data_amount,
}
