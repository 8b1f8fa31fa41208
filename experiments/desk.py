"""Structured output: customers' messages, and the JSON that an order desk needs of them."""

from __future__ import annotations

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
    tokenizer = model.tokenizer

    def answer(records: Sequence[Record]) -> list[str]:
        return [one(record) for record in records]

    def one(record: Record) -> str:
        allowed = {"order": desk.orders(record["question"]), **desk.CHOICES}
        few_shot = desk.prompt(record["question"], desk.examples())
        rendered = templates.render(few_shot, model.template, tokenizer=tokenizer)
        text, written = rendered.prompt, "{"
        for name in desk.FIELDS:
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
        records = desk.records("train")
        records = records[: max(2, round(share * len(records)))]
        # 500 messages, six at a time, are seen three times in 250 updates.
        steps = round(run.size.updates * 250 / 300)
        config = Config(**{"steps": steps, "seed": seed, **settings})
        trained = run.tuned(name, records, config, getattr(run, model))

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
        "tuned base": tuned(run, "desk, tuned base", "base"),
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
