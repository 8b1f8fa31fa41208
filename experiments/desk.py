"""Structured output: customers' messages, and the JSON that an order desk needs of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.run import Arm, Record, Run, Values, every, larger, result
from llmcourse import templates
from llmcourse.company import desk
from llmcourse.evaluation import Method
from llmcourse.finetuning import Config
from llmcourse.generation import generate
from llmcourse.models import LoadedModel


def measured(
    answer: Callable[[Sequence[Record]], Sequence[str]], records: Sequence[Record]
) -> Values:
    """The scores of the texts that `answer` gives."""
    texts = list(answer(records))
    each = [desk.scores(t, json.loads(r["answer"])) for t, r in zip(texts, records, strict=True)]
    values: Values = {name: [found[name] for found in each] for name in each[0]}
    return {**values, "answers": texts}


# --- without training -----------------------------------------------------------------------------


def by_rules(records: Sequence[Record]) -> list[str]:
    """What regular expressions read in each message."""
    return [desk.rules(r["question"]) for r in records]


def prompted(model: LoadedModel, solved: Sequence[Record] = ()) -> Callable:
    """Answers of an untuned model, cut after the first closing brace."""

    def answer(records: Sequence[Record]) -> list[str]:
        prompts = [desk.prompt(r["question"], solved) for r in records]
        found = generate(model, prompts, max_new_tokens=desk.LONGEST + 16, progress=False)
        return [desk.first_object(a.text) for a in found]

    return answer


def constrained(model: LoadedModel) -> Callable:
    """Few-shot with constrained decoding: the model chooses among values that the schema allows.

    The form is given, field by field; at each token only those stay possible that begin an allowed
    value (for the order: a number that stands in the message). So every answer is valid JSON, and
    what is measured is the choice.
    """

    def answer(records: Sequence[Record]) -> list[str]:
        same, _ = prompt("MESSAGE")
        start = _Reader(model)
        start.read(same)  # schema and examples, which all prompts have
        return [one(record, copy.deepcopy(start.cache)) for record in records]

    def prompt(message: str) -> list[str]:
        """The prompt before the message, and from it on."""
        few_shot = desk.prompt(message, desk.examples())
        rendered = templates.render(few_shot, model.template, tokenizer=model.tokenizer)
        before, after = rendered.prompt.rsplit(message, 1)
        return [before, message + after]

    def one(record: Record, cache: Any) -> str:
        allowed = {"order": desk.orders(record["question"]), **desk.CHOICES}
        reader, written = _Reader(model, cache), ""
        _, text = prompt(record["question"])
        for name in desk.FIELDS:
            options = [f" {json.dumps(value)}," for value in dict.fromkeys(allowed[name])]
            start = f'{" " if written else "{"}"{name}":'
            chosen = reader.likeliest(text + start, [*options, " null,"])
            written, text = written + start + chosen, ""
        return written.removesuffix(",") + "}"

    return answer


class _Reader:
    """A model that has read something, and chooses how it goes on; it reads nothing twice."""

    def __init__(self, model: LoadedModel, cache: Any = None) -> None:
        from transformers import DynamicCache

        self.model, self.cache = model, cache or DynamicCache(config=model.model.config)

    def likeliest(self, text: str, options: Sequence[str]) -> str:
        """Read `text`, then the option that is written when nothing else may be written.

        Each option has to end with a mark, so that none is the beginning of another one.
        """
        tails = {option: self._ids(option) for option in options}
        logits = self.read(text)
        done: list[int] = []
        while done not in tails.values():
            allowed = {t[len(done)] for t in tails.values() if t[: len(done)] == done}
            done.append(max(allowed, key=lambda token: float(logits[token])))
            logits = self._next(done[-1:])
        return next(option for option, tail in tails.items() if tail == done)

    def _ids(self, text: str) -> list[int]:
        return self.model.tokenizer(text, add_special_tokens=False)["input_ids"]

    def read(self, text: str) -> Any:
        """What the model expects after `text`."""
        return self._next(self._ids(text))

    def _next(self, ids: Sequence[int]) -> Any:
        import torch

        with torch.inference_mode():
            row = torch.tensor([list(ids)], device=self.model.device)
            out = self.model.model(row, past_key_values=self.cache, use_cache=True)
        return out.logits[0, -1]


# --- claims ---------------------------------------------------------------------------------------


def tuned(run: Run, name: str, share: float = 1.0) -> Arm:
    """The chat model trained on the messages, or on a part of them."""

    def make(seed: int) -> Callable:
        records = desk.records("train")
        records = records[: max(2, round(share * len(records)))]
        # 500 messages, six at a time, are seen three times in 250 updates. Prompt dropout helps to
        # recognise a fact in other words; here it would hide what the answer follows from.
        steps = round(run.size.updates * 250 / 300)
        config = Config(steps=steps, prompt_dropout=0.0, seed=seed)
        trained = run.tuned(name, records, config)

        def answer(asked: Sequence[Record]) -> list[str]:
            method = Method(trained)
            found = generate(
                method.model,
                [r["question"] for r in asked],
                max_new_tokens=desk.LONGEST,
                progress=False,
            )
            return [a.text.strip() for a in found]

        return answer

    return Arm(name, make)


def structured_output(run: Run) -> dict[str, Any]:
    """Rules, prompts, constrained decoding and tuning on the same messages."""
    arms = {
        "rules": Arm("rules", lambda _: by_rules, trained=False),
        "zero-shot": Arm("desk, zero-shot", lambda _: prompted(run.chat), trained=False),
        "few-shot": Arm(
            "desk, few-shot", lambda _: prompted(run.chat, desk.examples()), trained=False
        ),
        "few-shot, constrained": Arm(
            "desk, constrained", lambda _: constrained(run.chat), trained=False
        ),
        "tuned chat": tuned(run, "desk, tuned chat"),
    }
    records = desk.records("test")[: run.size.questions]
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
        setting="the same messages; prompts have the schema, and few-shot five examples",
        notes="Holds: tuned, all five fields are right more often than by every other way.",
    )


def data_amount(run: Run) -> dict[str, Any]:
    """A quarter, half and all of the training messages, for the same number of updates."""
    arms = {
        "25 %": tuned(run, "desk, a quarter", share=0.25),
        "50 %": tuned(run, "desk, half", share=0.5),
        "100 %": tuned(run, "desk, tuned chat"),
    }
    records = desk.records("test")[: run.size.questions]
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
        setting=f"25, 50 or 100 % of {len(desk.records('train'))} messages, the same number of "
        "updates",
    )


CLAIMS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "structured-output": structured_output,
    "data-amount": data_amount,
}
