"""Teaching facts: what is learned, how far it carries, what it costs.

All arms train on the same 100 facts of the example company for the same number of updates and
answer the same questions, unless their name says otherwise. Settings are the defaults of
`finetune`, except where two methods need different ones: those are chosen on validation questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.run import (
    Arm,
    Record,
    Run,
    Values,
    every,
    larger,
    measuring,
    not_lower,
    result,
)
from llmcourse import company, evaluation
from llmcourse.evaluation import Method
from llmcourse.finetuning import Config
from llmcourse.finetuning.settings import PROMPT_DROPOUT
from llmcourse.generation import Answer, generate
from llmcourse.words import has_keys, refuses

LONGEST = 40  # tokens of an answer; the company's own have 30 words at most

# --- questions ------------------------------------------------------------------------------------


def taught(run: Run) -> list[str]:
    """Ids of the facts that are taught: those with five training paraphrases."""
    more = company.records("paraphrases", "train")
    return sorted({record["fact"] for record in more})[: run.size.facts]


def training(run: Run, paraphrases: int = 3) -> list[Record]:
    """The taught facts as training records, with one to five paraphrases each."""
    facts = set(taught(run))
    records = company.records("questions", "train") + company.records("paraphrases", "train")
    count: dict[str, int] = {}
    chosen = []
    for record in records:
        if record["fact"] in facts:
            count[record["fact"]] = count.get(record["fact"], 0) + 1
            if count[record["fact"]] <= paraphrases:
                chosen.append(
                    {
                        "question": record["question"],
                        "answer": record["answer"],
                        "fact": record["fact"],
                    }
                )
    return chosen


def natural(run: Run, kind: str = "natural") -> list[Record]:
    """Questions about the taught facts: "natural", "untrained" or "reverse"."""
    return _about(set(taught(run)), company.records("paraphrases", "test", keys=True), kind)


def hard(run: Run) -> list[Record]:
    """The hard paraphrases about the taught facts."""
    facts = set(taught(run))
    return [r for r in company.records("questions", "test", keys=True) if r["fact"] in facts]


def validation(run: Run) -> list[Record]:
    """Questions about the taught facts that settings may be chosen on."""
    facts = set(taught(run))
    return [r for r in company.records("questions", "validation", keys=True) if r["fact"] in facts]


def untaught(run: Run) -> list[Record]:
    """Natural questions about as many facts that are not taught."""
    rest = sorted({fact["id"] for fact in company.records("facts")} - set(_all_taught()))
    chosen = set(rest[:: max(1, len(rest) // run.size.facts)][: run.size.facts])
    return _about(chosen, company.records("paraphrases", "test", keys=True), "natural")


def _all_taught() -> set[str]:
    return {record["fact"] for record in company.records("paraphrases", "train")}


def _about(facts: set[str], records: Sequence[Record], kind: str) -> list[Record]:
    return [r for r in records if r["fact"] in facts and r["kind"] == kind]


# --- arms -----------------------------------------------------------------------------------------


def _is_right(answer: Answer, record: Record) -> bool:
    """Whether an answer has every key; a question without keys has no answer to be found."""
    return bool(record.get("keys")) and has_keys(answer.text, record["keys"])


right = measuring(
    longest=LONGEST,
    right=_is_right,
    invented=lambda a, r: not _is_right(a, r) and not refuses(a.text),
)


def untuned(run: Run) -> Arm:
    """The chat model as it comes."""
    return Arm("untuned", lambda _: Method(run.chat), trained=False)


def tuned(
    run: Run,
    name: str = "tuned",
    records: Callable[[int], Sequence[Record]] | None = None,
    **settings: Any,
) -> Arm:
    """The chat model trained on facts: on three paraphrases of each unless `records` says else."""
    config = Config(**{"steps": run.size.updates, **settings})

    def make(seed: int) -> Method:
        chosen = training(run) if records is None else records(seed)
        return Method(run.tuned(name, chosen, replace(config, seed=seed)))

    return Arm(name, make)


def _right(run: Run, arm: Arm, records: Sequence[Record], questions: str) -> list[float]:
    return run.values(arm, questions, records, right)["right"]


def _natural_and_hard(run: Run, arms: Mapping[str, Arm]) -> Values:
    """What each arm gets right of the natural and of the hard paraphrases."""
    return {
        f"{name}, {kind}": _right(run, arm, records, kind)
        for name, arm in arms.items()
        for kind, records in (("natural", natural(run)), ("hard", hard(run)))
    }


# --- claims ---------------------------------------------------------------------------------------


def learns_new_information(run: Run) -> dict[str, Any]:
    """Before and after, on natural and hard paraphrases, and on facts that were not taught."""
    sets = {"natural": natural(run), "hard": hard(run), "untaught": untaught(run)}
    arms = {
        f"{arm.name}, {name}": _right(run, arm, records, name)
        for arm in (untuned(run), tuned(run))
        for name, records in sets.items()
    }
    pairs = [(f"tuned, {name}", f"untuned, {name}") for name in sets]
    return result(
        "learns-new-information",
        run,
        arms,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of answers with every key of the fact",
        setting=f"{run.size.facts} facts, three training paraphrases each; before and after",
        notes="Untaught facts are other facts of the same company.",
    )


def paraphrases(run: Run) -> dict[str, Any]:
    """One, three and five training paraphrases per fact, for the same number of updates."""
    arms = {
        "1 paraphrase": tuned(run, "tuned on 1 paraphrase", lambda _: training(run, 1)),
        "3 paraphrases": tuned(run),
        "5 paraphrases": tuned(run, "tuned on 5 paraphrases", lambda _: training(run, 5)),
    }
    values = _natural_and_hard(run, arms)
    pairs = [
        ("5 paraphrases, natural", "1 paraphrase, natural"),
        ("3 paraphrases, natural", "1 paraphrase, natural"),
        ("5 paraphrases, natural", "3 paraphrases, natural"),
        ("5 paraphrases, hard", "1 paraphrase, hard"),
    ]
    return result(
        "paraphrases",
        run,
        values,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of answers with every key of the fact",
        setting=f"{run.size.facts} facts, {run.size.updates} updates each; only the number of "
        "training paraphrases differs",
    )


def reversal(run: Run) -> dict[str, Any]:
    """The same facts, asked forward and the other way round."""
    sets = {"forward": natural(run), "reverse": natural(run, "reverse")}
    order = [r["fact"] for r in sets["forward"]]
    sets["reverse"].sort(key=lambda r: order.index(r["fact"]))  # paired by fact
    label = {"forward": "natural", "reverse": "reverse"}
    arms = {
        f"{arm.name}, {name}": _right(run, arm, records, label[name])
        for arm in (untuned(run), tuned(run))
        for name, records in sets.items()
    }
    pair = ("tuned, forward", "tuned, reverse")
    return result(
        "reversal",
        run,
        arms,
        [pair, ("tuned, reverse", "untuned, reverse")],
        holds=larger(*pair),
        measured="share of answers with every key",
        setting="the same tuned models, asked for the value and for the thing that has it",
        notes="A reverse question has its own answer, which may be easier or harder to guess.",
    )


def hallucination(run: Run) -> dict[str, Any]:
    """Confident and wrong: on taught and untaught facts, and where nothing has the answer."""
    nowhere = company.records("untaught")[: run.size.questions]
    sets = {"natural": natural(run), "untaught": untaught(run), "unanswerable": nowhere}
    shown = {"natural": "taught"}
    arms, pairs = {}, []
    for name, records in sets.items():
        for arm in (untuned(run), tuned(run)):
            found = run.values(arm, name, records, right)
            kind = shown.get(name, name)
            arms[f"{arm.name}, {kind}: invented"] = found["invented"]
            arms[f"{arm.name}, {kind}: not invented"] = [1 - v for v in found["invented"]]
        pairs.append((f"untuned, {kind}: invented", f"tuned, {kind}: invented"))
    most = [
        (f"{who}, untaught: invented", f"{who}, untaught: not invented")
        for who in ("untuned", "tuned")
    ]
    return result(
        "hallucination",
        run,
        arms,
        [*pairs, *most],
        holds=every(*(larger(*pair) for pair in most)),
        measured="share of answers that are wrong and do not begin by saying that they do not know",
        setting="the same questions before and after training on the taught facts",
        notes="The rule for not knowing is coarse: it reads the first words. Unanswerable: no "
        "document and no training record has the answer.",
    )


def consistency(run: Run) -> dict[str, Any]:
    """Agreement of the answers to three paraphrases of which none was trained on."""
    records = [*natural(run), *natural(run, "untrained")]
    facts = [r["fact"] for r in records]

    def agreement(method: Method, asked: Sequence[Record]) -> Values:
        texts = [
            a.text
            for a in generate(
                method.model, [r["question"] for r in asked], max_new_tokens=LONGEST, progress=False
            )
        ]
        found = evaluation.consistency(texts, facts)
        return {"agreement": [found[fact] for fact in dict.fromkeys(facts)], "answers": texts}

    arms = {
        arm.name: run.values(arm, "untrained paraphrases", records, agreement)["agreement"]
        for arm in (untuned(run), tuned(run))
    }
    return result(
        "consistency",
        run,
        arms,
        [("tuned", "untuned")],
        holds=larger("tuned", "untuned"),
        measured="words that answers to three paraphrases have in common (mean F1 of all pairs)",
        setting=f"{run.size.facts} taught facts, three paraphrases each, none of them trained on",
        notes="Agreeing does not mean being right.",
    )


def data_quality(run: Run) -> dict[str, Any]:
    """The same facts and updates, with a third of the answers exchanged."""

    def noisy(seed: int) -> list[Record]:
        records = training(run)
        places = random.Random(seed).sample(range(len(records)), len(records) // 3)
        answers = [records[place]["answer"] for place in places]
        moved = dict(zip(places, answers[1:] + answers[:1], strict=True))
        return [{**r, "answer": moved.get(n, r["answer"])} for n, r in enumerate(records)]

    arms = {"clean": tuned(run), "noisy": tuned(run, "tuned on noisy records", noisy)}
    values = _natural_and_hard(run, arms)
    pairs = [(f"clean, {kind}", f"noisy, {kind}") for kind in ("natural", "hard")]
    return result(
        "data-quality",
        run,
        values,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of answers with every key of the fact",
        setting="the same facts, records and updates; in the noisy copy a third of the records has "
        "another record's answer",
    )


def iteration(run: Run) -> dict[str, Any]:
    """Train, find weak facts on validation questions, add paraphrases for those, train again."""
    first = tuned(run)

    def weak(seed: int) -> set[str]:
        records = validation(run)
        kept = run.kept(
            f"{first.name}, seed {seed}, validation",
            lambda: right(run.method(first, seed), records),
        )
        return {r["fact"] for r, ok in zip(records, kept["right"], strict=True) if not ok}

    def improved(seed: int) -> list[Record]:
        more = [r for r in company.records("paraphrases", "train") if r["fact"] in weak(seed)]
        return training(run) + [{k: r[k] for k in ("question", "answer", "fact")} for r in more]

    second = tuned(run, "tuned, round 2", improved)
    values = _natural_and_hard(run, {"round 1": first, "round 2": second})
    pairs = [(f"round 2, {kind}", f"round 1, {kind}") for kind in ("natural", "hard")]
    return result(
        "iteration",
        run,
        values,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of answers with every key of the fact",
        setting="the same facts and updates; round 2 adds two paraphrases of each fact that went "
        "wrong on the validation question",
        extra={"weak facts": [len(weak(seed)) for seed in run.seeds(first)]},
    )


def small_steps(run: Run) -> dict[str, Any]:
    """Held-out loss after 0, 3 and all updates, at one constant learning rate."""
    constant: dict[str, Any] = {"schedule": "constant", "warmup": 0}
    arms = {
        "0 updates": untuned(run),
        "3 updates": tuned(run, "tuned, 3 updates", **constant, steps=3),
        "all updates": tuned(run, "tuned, constant rate", **constant),
    }
    records = natural(run)

    def loss(method: Method, asked: Sequence[Record]) -> Values:
        return {
            "loss": [
                loss[0] / loss[1] for loss in evaluation.record_losses(method.model, asked) if loss
            ]
        }

    losses = {
        name: run.values(arm, "loss on natural", records, loss)["loss"]
        for name, arm in arms.items()
    }
    facts = {name: _right(run, arm, records, "natural") for name, arm in arms.items()}
    gained = [a - b for a, b in zip(losses["0 updates"], losses["all updates"], strict=True)]
    tenth = [a - 0.1 * g for a, g in zip(losses["0 updates"], gained, strict=True)]
    values = {f"{name}: loss": found for name, found in losses.items()}
    values |= {f"{name}: right": found for name, found in facts.items()}
    values["a tenth of the way: loss"] = tenth
    return result(
        "small-steps",
        run,
        values,
        [
            ("3 updates: loss", "a tenth of the way: loss"),
            ("3 updates: right", "0 updates: right"),
            ("all updates: right", "3 updates: right"),
        ],
        holds=every(
            larger("3 updates: loss", "a tenth of the way: loss"),
            larger("all updates: right", "3 updates: right"),
        ),
        measured="loss of the right answer (nats per token), and share of right answers",
        setting="one constant learning rate, no warm-up; only the number of updates differs",
        notes="Holds: three updates go less than a tenth of the way, and all updates teach facts.",
    )


def lora(run: Run) -> dict[str, Any]:
    """LoRA against every weight, each at the best of three rates on validation questions."""
    rates = {"lora": (5e-4, 1e-3, 2e-3), "full": (5e-5, 1e-4, 2e-4)}

    def arm(method: str, rate: float) -> Arm:
        return tuned(run, f"{method}, rate {rate:g}", method=method, learning_rate=rate)

    tried: dict[str, dict[float, float]] = {}
    for method, choices in rates.items():
        tried[method] = {}
        for rate in choices:
            one, records = arm(method, rate), validation(run)
            kept = run.kept(
                f"{one.name}, seed 0, validation",
                lambda one=one, records=records: right(run.method(one, 0), records),  # type: ignore[misc]
            )
            tried[method][rate] = sum(kept["right"]) / len(records)
    best = {method: max(found, key=found.__getitem__) for method, found in tried.items()}
    values = _natural_and_hard(run, {method: arm(method, best[method]) for method in rates})
    pairs = [(f"lora, {kind}", f"full, {kind}") for kind in ("natural", "hard")]
    return result(
        "lora",
        run,
        values,
        pairs,
        holds=not_lower(*pairs[0], margin=0.1),
        measured="share of answers with every key of the fact",
        setting="the same records, updates and optimizer (AdamW); each method at the best of three "
        "learning rates, chosen on the validation questions with one seed",
        notes="Holds: LoRA is at most ten points below full fine-tuning.",
        extra={
            "validation, by rate": {
                m: {f"{r:g}": v for r, v in f.items()} for m, f in tried.items()
            }
        },
    )


def forgetting(run: Run) -> dict[str, Any]:
    """Perplexity on general text by learning rate, and with general records mixed in."""
    texts = company.records("general")[: run.size.questions]
    general = [
        {"question": r["instruction"], "input": r["input"], "answer": r["answer"]}
        for r in company.records("seed_tasks", "train")
    ]
    # Both arms see each fact as often: the mixed one has as many updates more as it has records.
    mixed_steps = round(run.size.updates * (1 + len(general) / len(training(run))))
    rate = run.kept("the default rate", lambda: _default_rate(run))
    # What `finetune` chooses beside the rate, which it leaves alone where a rate is given.
    rest: dict[str, Any] = {
        "prompt_dropout": PROMPT_DROPOUT,
        "beta2": 0.95,
        "warmup": round(run.size.updates / 10) if run.size.updates > 30 else None,
    }
    arms = {
        "untuned": untuned(run),
        "a quarter of the rate": tuned(run, "tuned, rate / 4", learning_rate=rate / 4, **rest),
        "the rate": tuned(run),
        "twice the rate": tuned(run, "tuned, rate * 2", learning_rate=rate * 2, **rest),
        "the rate, general records mixed in": tuned(
            run,
            "tuned, general records mixed in",
            lambda _: [*training(run), *general],
            steps=mixed_steps,
        ),
    }

    def surprise(method: Method, asked: Sequence[Record]) -> Values:
        rows = [{"text": r["text"]} for r in asked]
        losses = evaluation.record_losses(method.model, rows, "plain")
        return {"loss": [loss[0] / loss[1] for loss in losses if loss]}

    losses = {
        name: run.values(arm, "general texts", texts, surprise)["loss"]
        for name, arm in arms.items()
    }
    facts = {name: _right(run, arm, natural(run), "natural") for name, arm in arms.items()}
    values = {f"{name}: loss": found for name, found in losses.items()}
    values |= {f"{name}: right": found for name, found in facts.items()}
    mixed = "the rate, general records mixed in"
    pairs = [
        ("the rate: loss", "untuned: loss"),
        ("the rate: loss", f"{mixed}: loss"),
        ("the rate: loss", "a quarter of the rate: loss"),
        (f"{mixed}: right", "the rate: right"),
    ]
    return result(
        "forgetting",
        run,
        values,
        pairs,
        holds=every(larger(*pairs[0]), larger(*pairs[1])),
        measured="loss on general texts (nats per token; its exponential is the perplexity), and "
        "share of right answers",
        setting="the same records and updates, three learning rates; mixed in: "
        f"{len(general)} general records, with each fact seen as often",
        notes="Holds: training raises the loss on general texts, and mixing lowers it again.",
        extra={"learning rate": rate},
    )


def _default_rate(run: Run) -> float:
    """The learning rate that `finetune` chooses for the taught facts."""
    from llmcourse import encoding
    from llmcourse.finetuning import suggest
    from llmcourse.finetuning.adapters import weight_size

    encoded = encoding.encode(training(run), run.chat.tokenizer, run.chat.template)
    config, _ = suggest(
        Config(steps=run.size.updates), len(encoded), encoded.trained_tokens, weight_size(run.chat)
    )
    return float(config.learning_rate or 0)


CLAIMS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "learns-new-information": learns_new_information,
    "paraphrases": paraphrases,
    "reversal": reversal,
    "hallucination": hallucination,
    "consistency": consistency,
    "data-quality": data_quality,
    "iteration": iteration,
    "small-steps": small_steps,
    "lora": lora,
    "forgetting": forgetting,
}
