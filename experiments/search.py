"""Prompt, retrieve or fine-tune: searching, reading, and all the methods side by side."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.facts import (
    LONGEST,
    hard,
    natural,
    right,
    taught,
    training,
    tuned,
    untaught,
    untuned,
)
from experiments.run import Arm, Record, Run, Values, every, larger, result
from llmcourse import company, data, retrieval, templates
from llmcourse.data import Passage
from llmcourse.evaluation import Method
from llmcourse.finetuning import Config
from llmcourse.models import LoadedModel
from llmcourse.retrieval import Hit, Index, prompt_with
from llmcourse.words import has_keys, refuses

SYSTEM = (
    "You answer customers of Ferrowick, a maker of small household appliances. Answer in one "
    "short, polite sentence. If you do not know the answer, say that you do not know."
)
K = 3  # passages in a prompt
Prompt = Callable[[Mapping[str, Any]], str]


@cache
def passages() -> list[Passage]:
    """The company's documents, cut into passages."""
    return data.from_documents(Path(company.__path__[0]) / "documents")


@cache
def index(by: str = "embeddings") -> Index:
    """A search index over them."""
    return Index(passages(), by=by)


def holds_fact(record: Mapping[str, Any], passage: Passage) -> bool:
    """Whether a passage answers a question: it is of the fact's document and has its keys."""
    fact = _facts()[record["fact"]]
    return passage.document == fact["document"] and has_keys(passage.text, fact["keys"])


@cache
def _facts() -> dict[str, Record]:
    return {fact["id"]: fact for fact in company.records("facts")}


def with_passages(by: str = "embeddings") -> Prompt:
    """The question after the passages that the search finds."""
    return lambda record: prompt_with(record["question"], index(by).search(record["question"], K))


def with_the_right_passage(record: Mapping[str, Any]) -> str:
    """The question after the passage that has the fact: what a perfect search would hand over."""
    there = [p for p in passages() if holds_fact(record, p)]
    return prompt_with(record["question"], [Hit(p, 1.0) for p in there[:1]])


def careful(run: Run) -> Prompt:
    """Three examples before the question, about facts that are not asked for."""
    known = set(taught(run)) | {r["fact"] for r in untaught(run)}
    rest = [r for r in company.records("questions", "train") if r["fact"] not in known]
    rest = rest or company.records("questions", "train")
    done = "".join(
        f"Question: {r['question']}\nAnswer: {r['answer']}\n\n"
        for r in rest[:: max(1, len(rest) // 3)][:3]
    )
    return lambda record: f"{done}Question: {record['question']}\nAnswer:"


# --- arms -----------------------------------------------------------------------------------------


def reading_records(run: Run) -> list[Record]:
    """Questions about other facts, each with passages, the right one among them."""
    asked = set(taught(run)) | {r["fact"] for r in untaught(run)}
    first: dict[str, Record] = {}
    for record in company.records("questions", "train"):
        if record["fact"] not in asked:
            first.setdefault(record["fact"], record)
    chosen = list(first.values()) or company.records("questions", "train")[:6]
    if len(chosen) < 120:  # 178 facts are not taught, and 100 of them are asked
        second = [r for r in company.records("questions", "train") if r["fact"] in first]
        chosen = [r for r in second if r["id"].endswith(("-1", "-2"))]
    chosen = chosen[: 25 * run.size.updates]
    records = []
    for record in chosen:
        hits = index().search(record["question"], K)
        if not any(holds_fact(record, hit.passage) for hit in hits):
            there = [p for p in passages() if holds_fact(record, p)]
            hits = [*hits[: K - 1], *(Hit(p, 0.0) for p in there[:1])]
        prompt = prompt_with(record["question"], hits)
        records.append({"question": prompt, "answer": record["answer"], "fact": record["fact"]})
    return records


def reading_updates(run: Run) -> int:
    """Updates of a training to read."""
    return min(60, run.size.updates)


def reader(run: Run, model: str = "chat") -> Arm:
    """A model trained to answer from passages, about facts that are not asked for."""

    def make(seed: int) -> Method:
        config = Config(steps=reading_updates(run), seed=seed)
        trained = run.tuned(f"reader, {model}", reading_records(run), config, getattr(run, model))
        return Method(trained, prompt=with_passages())

    return Arm(f"reader, {model}", make)


def both(run: Run) -> Arm:
    """One model trained on the facts and on reading, each as often as where it is alone."""

    def make(seed: int) -> Method:
        batch = Config().batch_size
        records = [
            record
            for each, updates in (
                (training(run), run.size.updates),
                (reading_records(run), reading_updates(run)),
            )
            for record in itertools.islice(itertools.cycle(each), updates * batch)
        ]
        config = Config(steps=len(records) // batch, seed=seed)
        return Method(run.tuned("facts and reading", records, config), prompt=with_passages())

    return Arm("facts and reading", make)


def look_up(run: Run) -> Arm:
    """No model: the answer of the most similar training question."""

    def make(_: int) -> Callable[[Sequence[str]], list[retrieval.Match]]:
        return retrieval.nearest(training(run))

    return Arm("look-up", make, trained=False)


def looked_up(find: Any, records: Sequence[Record]) -> Values:
    """What a look-up gets right; it has no prompt, and invents where it answers wrongly."""
    import time

    start = time.perf_counter()
    texts = [match.answer for match in find([r["question"] for r in records])]
    each = (time.perf_counter() - start) / len(records)
    ok = [float(has_keys(t, r["keys"])) for t, r in zip(texts, records, strict=True)]
    return {
        "right": ok,
        "invented": [float(not o and bool(t)) for o, t in zip(ok, texts, strict=True)],
        "prompt tokens": [0.0] * len(records),
        "seconds": [each] * len(records),
        "answers": texts,
    }


def everything(run: Run) -> Arm:
    """All documents in the prompt of the base model; they are read once for all questions."""

    def make(_: int) -> _Reader:
        documents = "\n\n".join(company.documents().values())
        return _Reader(run.base, documents)

    return Arm("everything in the prompt", make, trained=False)


class _Reader:
    """Answers from a long text that the model reads once: its keys and values are kept."""

    def __init__(self, model: LoadedModel, text: str) -> None:
        import torch
        from transformers import DynamicCache

        self.model = model
        self.ids = model.tokenizer(text + "\n\n")["input_ids"]
        self.cache = DynamicCache(config=model.model.config)
        with torch.inference_mode():
            for start in range(0, len(self.ids), 512):  # in pieces, so that memory stays small
                piece = torch.tensor([self.ids[start : start + 512]], device=model.device)
                model.model(piece, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def __call__(self, question: str) -> tuple[str, int]:
        """The answer, and how many tokens were read."""
        import torch

        rendered = templates.render({"question": question}, "qa")
        tail = self.model.tokenizer(rendered.prompt, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*self.ids, *tail]], device=self.model.device)
        out = self.model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=copy.deepcopy(self.cache),
            max_new_tokens=LONGEST,
            do_sample=False,
            pad_token_id=self.model.tokenizer.pad_token_id,
        )
        text = self.model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return text.split("\n")[0].strip(), ids.shape[1]


def read_everything(read: _Reader, records: Sequence[Record]) -> Values:
    """What is right with everything in the prompt."""
    import time

    found: dict[str, list[Any]] = {
        n: [] for n in ("right", "invented", "prompt tokens", "seconds", "answers")
    }
    for record in records:
        start = time.perf_counter()
        text, tokens = read(record["question"])
        ok = has_keys(text, record["keys"])
        row = (
            float(ok),
            float(not ok and not refuses(text)),
            float(tokens),
            time.perf_counter() - start,
            text,
        )
        for name, value in zip(found, row, strict=True):
            found[name].append(value)
    return found


# --- claims ---------------------------------------------------------------------------------------


def search_by_meaning(run: Run) -> dict[str, Any]:
    """Recall of keyword search, search by meaning and both, on all facts."""
    sets = {
        "natural": [r for r in company.records("paraphrases", "test") if r["kind"] == "natural"],
        "hard": company.records("questions", "test"),
    }
    values: Values = {}
    for by in retrieval.METHODS:
        for kind, records in sets.items():

            def found(_: Any, asked: Sequence[Record], by: str = by) -> Values:
                hits = index(by).search_all([r["question"] for r in asked], 5)
                there = [
                    [holds_fact(r, h.passage) for h in row]
                    for r, row in zip(asked, hits, strict=True)
                ]
                return {f"k={k}": [float(any(row[:k])) for row in there] for k in (1, 3, 5)}

            arm = Arm(f"search, {by}", lambda _: None, trained=False)
            each = run.values(arm, kind, records[: run.size.questions], found)
            values |= {f"{by}, {kind}, {k}": v for k, v in each.items()}
    pairs = [(f"embeddings, {kind}, k=3", f"bm25, {kind}, k=3") for kind in sets]
    pairs += [(f"embeddings, {kind}, k=3", f"hybrid, {kind}, k=3") for kind in sets]
    return result(
        "search-by-meaning",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs[:2])),
        measured="recall@k: share of questions with the fact among the first k passages",
        setting=f"the same {len(passages())} passages and questions; only the search differs",
    )


def _funnel(run: Run, arm: Arm, kind: str, records: Sequence[Record]) -> dict[str, list[float]]:
    """Found, then right."""
    hits = index().search_all([r["question"] for r in records], K)
    found = [
        float(any(holds_fact(r, h.passage) for h in row))
        for r, row in zip(records, hits, strict=True)
    ]
    ok = run.values(arm, kind, records, right)["right"]
    return {"found": found, "right": ok}


def reading(run: Run) -> dict[str, Any]:
    """Reading retrieved passages, before and after training to read about other facts."""
    arms = {
        "chat": Arm(
            "retrieval",
            lambda _: Method(run.chat, system=SYSTEM, prompt=with_passages()),
            trained=False,
        ),
        "chat, tuned to read": reader(run),
        "base": Arm(
            "retrieval, base", lambda _: Method(run.base, prompt=with_passages()), trained=False
        ),
        "base, tuned to read": reader(run, "base"),
    }
    sets = {"natural": natural(run), "hard": hard(run)}
    values = {}
    for kind, records in sets.items():
        for name, arm in arms.items():
            funnel = _funnel(run, arm, kind, records)
            values[f"found, {kind}"] = funnel["found"]
            values[f"{name}, {kind}"] = funnel["right"]
    pairs = [
        (f"{model}, tuned to read, {kind}", f"{model}, {kind}")
        for model in ("chat", "base")
        for kind in sets
    ]
    return result(
        "reading",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs if pair[0].endswith("natural"))),
        measured="share of questions whose passage is found, and share of right answers",
        setting=f"{K} passages by meaning; tuned on questions about facts that are not asked for",
    )


def prompt_rag_finetune(run: Run) -> dict[str, Any]:
    """The table of lesson 07."""
    chat = {
        "prompt, zero-shot": untuned(run),
        "prompt, few-shot": Arm(
            "few-shot",
            lambda _: Method(run.chat, system=SYSTEM, prompt=careful(run)),
            trained=False,
        ),
        "retrieval, keywords": Arm(
            "retrieval, bm25",
            lambda _: Method(run.chat, system=SYSTEM, prompt=with_passages("bm25")),
            trained=False,
        ),
        "retrieval, meaning": Arm(
            "retrieval",
            lambda _: Method(run.chat, system=SYSTEM, prompt=with_passages()),
            trained=False,
        ),
        "the right passage": Arm(
            "oracle",
            lambda _: Method(run.chat, system=SYSTEM, prompt=with_the_right_passage),
            trained=False,
        ),
        "tuned on the facts": tuned(run),
        "tuned to read, retrieval": reader(run),
        "tuned on both, retrieval": both(run),
    }
    sets = {"natural": natural(run), "hard": hard(run), "untaught": untaught(run)}
    values: Values = {}
    cost: dict[str, dict[str, float]] = {}
    for kind, records in sets.items():
        for name, arm in chat.items():
            found = run.values(arm, kind, records, right)
            values[f"{name}: right, {kind}"] = found["right"]
            values[f"{name}: invented, {kind}"] = found["invented"]
            cost[name] = {
                "prompt tokens": round(sum(found["prompt tokens"]) / len(records)),
                "ms": round(1000 * sum(found["seconds"]) / len(records)),
            }
        found = run.values(look_up(run), kind, records, looked_up)
        values[f"look-up: right, {kind}"] = found["right"]
        values[f"look-up: invented, {kind}"] = found["invented"]
    cost["look-up"] = {"prompt tokens": 0, "ms": round(1000 * found["seconds"][0], 1)}
    few = sets["natural"][:: max(1, len(sets["natural"]) // run.size.everything)][
        : run.size.everything
    ]
    long = run.values(everything(run), "natural, some", few, read_everything)
    values["everything in the prompt (base): right, natural"] = long["right"]
    cost["everything in the prompt (base)"] = {
        "prompt tokens": round(sum(long["prompt tokens"]) / len(few)),
        "ms": round(1000 * sum(long["seconds"]) / len(few)),
    }
    plain = "prompt, zero-shot: right, natural"
    three = [
        f"{name}: right, natural"
        for name in ("retrieval, meaning", "tuned on the facts", "tuned on both, retrieval")
    ]
    pairs = [(name, plain) for name in three]
    pairs += [(three[2], three[0]), (three[2], three[1]), (three[1], three[0])]
    pairs += [("look-up: right, natural", three[2])]
    return result(
        "prompt-rag-finetune",
        run,
        values,
        pairs,
        holds=every(*(larger(*pair) for pair in pairs[:5])),
        measured="share of right answers, and of answers that are wrong and sure",
        setting="the same questions about the same facts for every method",
        notes="Holds: retrieval, tuning and both beat the prompt alone; both together beat each.",
        extra={"cost of a question": cost},
    )


CLAIMS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "search-by-meaning": search_by_meaning,
    "reading": reading,
    "prompt-rag-finetune": prompt_rag_finetune,
}
