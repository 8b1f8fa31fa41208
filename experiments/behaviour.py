"""What a model does rather than knows: continuing, answering, style, kinds of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.facts import training, tuned, untaught, untuned
from experiments.run import Arm, Record, Run, Values, every, larger, measuring, result
from llmcourse import company, prompts, synthesis
from llmcourse.evaluation import Method
from llmcourse.finetuning import Config
from llmcourse.generation import Answer
from llmcourse.words import continues_the_sentence, is_question, repeated_ngrams, token_f1

LONGEST = 80  # tokens of an output
TO_THE_END = 160  # as in lesson 01


def plain(run: Run, model: str, template: str | None = None) -> Arm:
    """An untuned model."""
    name = f"{model}{', ' + template if template else ''}"
    return Arm(name, lambda _: Method(getattr(run, model), template=template), trained=False)


def base_continues(run: Run) -> dict[str, Any]:
    """Instructions: the base model goes on, the chat model answers and ends."""
    records = [{"question": text} for text in prompts.INSTRUCTIONS[: run.size.questions]]
    measure = measuring(
        longest=TO_THE_END,
        ends_by_itself=lambda a, _: a.finished,
        repeated_4_grams=lambda a, _: repeated_ngrams(a.text),
    )
    arms = {"base": plain(run, "base", "plain"), "chat": plain(run, "chat")}
    values = {
        f"{name}: {metric}": run.values(arm, "instructions, to the end", records, measure)[metric]
        for name, arm in arms.items()
        for metric in ("ends by itself", "repeated 4 grams")
    }
    pairs = [
        ("chat: ends by itself", "base: ends by itself"),
        ("base: repeated 4 grams", "chat: repeated 4 grams"),
    ]
    return result(
        "base-continues",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs)),
        measured="share of outputs that end by themselves; share of repeated 4-grams",
        setting=f"the same instructions, up to {TO_THE_END} tokens; two models of two families",
    )


def question_breeds_questions(run: Run) -> dict[str, Any]:
    """Questions: the base model goes on with more of them."""
    records = [{"question": text} for text in prompts.QUESTIONS[: run.size.questions]]
    measure = measuring(
        longest=LONGEST,
        starts_with_a_question=lambda a, _: is_question(a.text),
        contains_a_question=lambda a, _: "?" in a.text,
    )
    arms = {"base": plain(run, "base", "plain"), "chat": plain(run, "chat")}
    kinds = ("starts with a question", "contains a question")
    values = {
        f"{name}: {metric}": run.values(arm, "questions", records, measure)[metric]
        for name, arm in arms.items()
        for metric in kinds
    }
    pairs = [(f"base: {metric}", f"chat: {metric}") for metric in kinds]
    return result(
        "question-breeds-questions",
        run,
        values,
        pairs,
        holds=larger(*pairs[0]),
        measured="share of outputs that start with a question, and that contain one",
        setting=f"the same questions, up to {LONGEST} tokens; two models of two families",
    )


def tags_matter(run: Run) -> dict[str, Any]:
    """The chat model with and without its chat template."""
    records = [{"question": text} for text in prompts.INSTRUCTIONS[: run.size.questions]]
    measure = measuring(
        longest=LONGEST, completes_the_sentence=lambda a, _: continues_the_sentence(a.text)
    )
    arms = {"without": plain(run, "chat", "plain"), "with": plain(run, "chat")}
    values = {
        f"{name} its template": run.values(arm, "instructions, tags", records, measure)[
            "completes the sentence"
        ]
        for name, arm in arms.items()
    }
    pair = ("without its template", "with its template")
    return result(
        "tags-matter",
        run,
        values,
        [pair],
        holds=larger(*pair),
        measured="share of outputs that complete the sentence",
        setting="the same model and instructions; only the template differs",
        notes="Judged by the first character alone.",
    )


def in_style(answer: Answer, _: Record) -> bool:
    """One or two sentences, at most 30 words, no exclamation mark, and an end."""
    sentences = sum(answer.text.count(mark) for mark in (". ", "? ")) + 1
    short = len(answer.text.split()) <= 30 and sentences <= 2
    return short and "!" not in answer.text and answer.finished


def tone(run: Run) -> dict[str, Any]:
    """The company's style: asked for, shown, or tuned; on questions about facts not trained on."""
    manner = "Answer politely, in one or two short sentences, without exclamation marks."
    shown = training(run)[:: max(1, len(training(run)) // 3)][:3]
    start = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in shown)
    arms = {
        "zero-shot": untuned(run),
        "prompted": Arm(
            "style, prompted", lambda _: Method(run.chat, system=manner), trained=False
        ),
        "few-shot": Arm(
            "style, few-shot",
            lambda _: Method(
                run.chat,
                system=manner,
                prompt=lambda r: f"{start}Question: {r['question']}\nAnswer:",
            ),
            trained=False,
        ),
        "tuned, no prompt": tuned(run),
    }
    measure = measuring(in_style=in_style, longest=60)
    values = {
        name: run.values(arm, "untaught, style", untaught(run), measure)["in style"]
        for name, arm in arms.items()
    }
    pairs = [("tuned, no prompt", name) for name in ("zero-shot", "prompted", "few-shot")]
    return result(
        "tone",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs)),
        measured="share of answers in style: at most two sentences and 30 words, no exclamation "
        "mark, ended by itself",
        setting="questions about facts that were not trained on: only the style can be right",
    )


def _shots(kind: str) -> Callable[[Record], str]:
    """Three solved tasks of the same sort before the task."""
    train = company.records(kind, "train")

    def prompt(record: Record) -> str:
        done = [r for r in train if r["task"] == record["task"]][:3]
        blocks = [f"{r['instruction']}\n{r['input']}\nAnswer: {r['answer']}" for r in done]
        return "\n\n".join([*blocks, f"{record['instruction']}\n{record['input']}\nAnswer:"])

    return prompt


def _tasks(kind: str, run: Run) -> list[Record]:
    rows = company.records(kind, "test")[: run.size.questions]
    return [{**r, "question": r["instruction"]} for r in rows]


F1 = {"extraction": 24, "expansion": 80}  # tokens of an answer, by kind


def _overlap(kind: str) -> Callable[[Method, Sequence[Record]], Values]:
    return measuring(
        f1=lambda a, r: token_f1(a.text.split("\n\n")[0].strip(), r["answer"]), longest=F1[kind]
    )


def _unpaired(values: Mapping[str, Sequence[float]], first: str, second: str) -> bool | None:
    from llmcourse.stats import larger as larger_mean

    return larger_mean(values[first], values[second])


def extraction_expansion(run: Run) -> dict[str, Any]:
    """Reading against writing tasks, after three examples, before any tuning."""
    values = {}
    for kind in F1:
        for model in ("chat", "base"):
            prompt = _shots(kind)
            arm = Arm(
                f"{model}, three examples",
                lambda _, model=model, prompt=prompt: Method(  # type: ignore[misc]
                    getattr(run, model), template="plain", prompt=prompt
                ),
                trained=False,
            )
            values[f"{model}: {kind}"] = run.values(arm, kind, _tasks(kind, run), _overlap(kind))[
                "f1"
            ]
    verdicts = {
        _unpaired(values, f"{model}: extraction", f"{model}: expansion")
        for model in ("chat", "base")
    }
    return result(
        "extraction-expansion",
        run,
        values,
        [],
        holds=lambda _: verdicts.pop() if len(verdicts) == 1 else None,
        measured="words in common with a good answer (F1)",
        setting="untuned models after three examples; tests of two kinds of tasks are unpaired",
        notes="Longer answers can hold more words that the reference lacks.",
    )


def extraction_expansion_tuned(run: Run) -> dict[str, Any]:
    """The same tasks zero-shot, before and after tuning on both kinds."""

    def make(seed: int) -> Method:
        train = [
            {"question": r["instruction"], "input": r["input"], "answer": r["answer"]}
            for kind in F1
            for r in company.records(kind, "train")
        ]
        config = Config(steps=min(60, run.size.updates), seed=seed)
        return Method(run.tuned("reading and writing", train, config))

    arms = {"untuned": untuned(run), "tuned": Arm("tuned on reading and writing", make)}
    values = {
        f"{name}: {kind}": run.values(arm, kind, _tasks(kind, run), _overlap(kind))["f1"]
        for name, arm in arms.items()
        for kind in F1
    }
    pairs = [(f"tuned: {kind}", f"untuned: {kind}") for kind in F1]
    easier = _unpaired(values, "tuned: extraction", "tuned: expansion")
    better = every(*(larger(*pair) for pair in pairs))
    return result(
        "extraction-expansion-tuned",
        run,
        values,
        pairs,
        holds=lambda tests: every(better, lambda _: easier)(tests),
        measured="words in common with a good answer (F1)",
        setting="zero-shot, before and after tuning on both kinds",
    )


def _proper(answer: Answer, _: Record) -> bool:
    """No rule finds fault with the form of the answer."""
    return synthesis.answer_trouble(answer, answer.prompt) == ""


def _invented(run: Run) -> dict[str, Any]:
    """Records that the chat model writes from seed tasks; coding and comparing are rejected."""
    import re

    words = r"code|python|program|function|html|sql|javascript|loop|compar|differ|versus| vs|better"

    def make() -> dict[str, Any]:
        made = synthesis.self_instruct(
            company.records("seed_tasks", "train"),
            run.chat,
            min(120, 20 * run.size.updates),
            unwanted=lambda text: re.search(words, text.lower()) is not None,
        )
        return {"records": made.records, "tried": made.tried, "seconds": made.seconds}

    return run.kept("records that the chat model invents", make)


def _instructed(run: Run) -> dict[str, Arm]:
    """The base model before and after tuning on invented records."""

    def make(seed: int) -> Method:
        config = Config(template="qa", epochs=3, seed=seed)
        return Method(run.tuned("instructed", _invented(run)["records"], config, run.base))

    return {
        "base": plain(run, "base", "qa"),
        "tuned": Arm("base, tuned on invented records", make),
    }


def _seed_tasks(run: Run, split: str) -> list[Record]:
    rows = company.records("seed_tasks", split)
    if split == "test":  # no record that was trained on has an input
        rows = [r for r in rows if not r["input"]]
    rows = rows[: run.size.questions]
    return [
        {"question": r["instruction"], "input": r["input"], "answer": r["answer"]} for r in rows
    ]


def _instructed_on(
    run: Run, claim: str, split: str, setting: str, extra: Any = None
) -> dict[str, Any]:
    values = {
        name: run.values(
            arm,
            f"seed tasks, {split}",
            _seed_tasks(run, split),
            measuring(longest=LONGEST, proper=_proper),
        )["proper"]
        for name, arm in _instructed(run).items()
    }
    return result(
        claim,
        run,
        values,
        [("tuned", "base")],
        holds=larger("tuned", "base"),
        measured="share of proper, finished answers",
        setting=setting,
        notes="Judged by form, not truth.",
        extra=extra,
    )


def generalises(run: Run) -> dict[str, Any]:
    """Kinds of tasks that were rejected when the training records were made."""
    setting = "comparing and coding, of which no training record has anything; before and after"
    return _instructed_on(run, "generalises", "held-out", setting)


def synthetic_data(run: Run) -> dict[str, Any]:
    """What the model's own records teach the base model."""
    made = _invented(run)
    extra = {
        "records written": made["tried"],
        "records that passed": len(made["records"]),
        "records per minute": round(60 * len(made["records"]) / made["seconds"], 1),
    }
    setting = "other tasks of the same kinds, before and after tuning on the model's own records"
    return _instructed_on(run, "synthetic-data", "test", setting, extra)


CLAIMS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "base-continues": base_continues,
    "question-breeds-questions": question_breeds_questions,
    "tags-matter": tags_matter,
    "tone": tone,
    "extraction-expansion": extraction_expansion,
    "extraction-expansion-tuned": extraction_expansion_tuned,
    "generalises": generalises,
    "synthetic-data": synthetic_data,
}
