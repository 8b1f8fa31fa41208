"""Original notebooks of the course: run unchanged, each cell reported; libraries adapted."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from llmcourse import models
from llmcourse.errors import (
    DataError,
    HubError,
    SettingError,
    UnknownModel,
    UserError,
)
from llmcourse.files import write_lines
from llmcourse.llama.settings import settings, taken
from llmcourse_legacy import helpers, libraries, sets
from tests.conftest import ROOT, Run
from tests.small_models import small_cache
from tests.test_notebooks import lesson_with

LABS = ROOT / "tests" / "labs"
# Of each notebook: its cells with notes, by number, and the notes' kinds. The others just run.
SUB, TRANS, IGN = "substituted", "translated", "ignored"
NOTED: dict[str, dict[int, list[str]]] = {
    "01_compare_models": {3: [SUB], 6: [SUB], 8: [TRANS], 10: [SUB]},
    "02_look_at_data": {2: [SUB], 10: [SUB]},
    "03_follow_instructions": {
        2: [SUB],
        6: [SUB],
        7: [SUB],
        8: [SUB],
        9: [SUB, SUB],
        11: [SUB],
        12: [SUB, SUB],
    },
    "04_prepare_data": {2: [SUB], 11: [SUB], 12: [SUB, SUB, SUB]},
    "05_train": {6: [SUB, SUB], 7: [SUB], 8: [IGN, TRANS], 15: [SUB, IGN, IGN], 17: [SUB]},
    "06_evaluate": {2: [SUB], 3: [SUB, SUB], 9: [SUB]},
}
GONE = {"06_evaluate": {10: "python -m llmcourse harness --model lamini/lamini_docs_finetuned"}}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder for the tuned substitute, which several notebooks ask for: it is trained once."""
    return str(tmp_path_factory.mktemp("work"))


@pytest.fixture
def notebook(cli: Run, tmp_path: Path, work: str) -> Callable[..., subprocess.CompletedProcess]:
    """Run a notebook with the command, with an empty hub cache, no network and no server."""

    def run(path: Path, *more: str) -> subprocess.CompletedProcess:
        # the first one's answers are compared; the others only have to run
        small = {} if path.stem.startswith("01") else {"LLMCOURSE_CACHE": small_cache()}
        return cli(
            *("notebook", str(path), "--out", str(tmp_path / "out"), "--tier", "smoke", *more),
            **small,
            LLMCOURSE_WORK=work,
            HF_HUB_OFFLINE="1",
            HF_HOME=str(tmp_path / "hf"),
            OPENAI_API_KEY="",
            OPENAI_BASE_URL="",
            OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"),
            PYTHONIOENCODING="utf-8",
        )

    return run


def of(path: Path, *sources: str) -> Path:
    """A notebook of these cells, in a folder of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return lesson_with(path, *sources)


def results(done: subprocess.CompletedProcess) -> dict[int, tuple[str, list[str]]]:
    """The report: a cell's number -> its result, and its notes, in order."""
    found: dict[int, tuple[str, list[str]]] = {}
    number, of_cells = 0, ""
    for line in done.stdout.splitlines():
        if head := re.match(r"\[(\d+)/(\d+)\] ", line):
            number, of_cells = int(head[1]), head[2]
        elif number and (outcome := re.fullmatch(r"    ((?:ran|can't run).*) \([\d.]+ .*\)", line)):
            found[number] = (outcome[1], [])
        elif number and re.match(r"    (substituted|translated|ignored): ", line):
            found[number][1].append(line.strip())
    assert not of_cells or len(found) == int(of_cells), done.stdout + done.stderr
    return found


def outputs(tmp_path: Path, name: str) -> dict[int, str]:
    """What the executed copy shows: a cell's number -> its texts."""
    read = nbformat.read(tmp_path / "out" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in read.cells if cell.cell_type == "code"]
    return {
        number: "".join(
            o.get("text", "") or o.get("data", {}).get("text/plain", "")
            for o in cell.outputs
            if o.get("name") != "stderr"
        )
        for number, cell in enumerate(cells, 1)
    }


# --- the six notebooks, as a learner runs them ----------------------------------------------------


@pytest.mark.parametrize("name", sorted(NOTED))
@pytest.mark.notebook
def test_a_notebook_runs_unchanged_and_every_cell_is_reported(
    name: str, notebook: Callable, tmp_path: Path
) -> None:
    if name in ("02_look_at_data", "03_follow_instructions", "05_train"):
        pytest.importorskip("jsonlines", reason="pip install -r requirements-hosted.txt")
    path = tmp_path / "lab" / f"{name}.ipynb"
    path.parent.mkdir()
    original = (LABS / path.name).read_bytes()
    path.write_bytes(original)
    done = notebook(path, "--substitute")

    assert path.read_bytes() == original
    report, gone = results(done), GONE.get(name, {})
    for number, (outcome, notes) in report.items():
        kinds = [note.partition(":")[0] for note in notes]
        assert kinds == NOTED[name].get(number, []), (number, notes)
        if number in gone:
            assert outcome.startswith("can't run: UserError: ") and gone[number] in outcome
        elif notes:
            assert outcome == f"ran, with {len(notes)} note{'s' * (len(notes) > 1)}"
        else:
            assert outcome == "ran", (number, outcome)
    assert done.returncode == (1 if gone else 0), done.stderr
    assert f"{len(gone)} can't run" in done.stdout.splitlines()[-1]

    copy = nbformat.read(tmp_path / "out" / path.name, as_version=4)
    before = nbformat.reads(original.decode(), as_version=4)
    assert [cell.source for cell in copy.cells] == [cell.source for cell in before.cells]
    assert (tmp_path / "out" / f"{name}.html").is_file()
    CHECKS[name](outputs(tmp_path, name), path.parent)


def _compared(shown: dict[int, str], folder: Path) -> None:
    for number in (4, 5, 7, 8, 9, 11):
        assert len(shown[number].split()) > 3, shown[number]
    assert len({shown[number] for number in (4, 7, 8, 9)}) == 4
    assert "[INST]" in shown[9] and "INST" not in shown[8].replace("[translated]", "")
    assert shown[11] in shown[8]  # a hosted chat model gets every text as a message
    assert "[substituted] meta-llama/Llama-2-7b-hf" in shown[3] and "gemma-3-270m" in shown[3]


def _looked(shown: dict[int, str], folder: Path) -> None:
    first = json.loads((folder / "lamini_docs.jsonl").read_text("utf-8").splitlines()[0])
    assert first["question"] + first["answer"] in shown[5]
    assert f"### Question:\n{first['question']}" in shown[7]
    processed = (folder / "lamini_docs_processed.jsonl").read_text("utf-8").splitlines()
    assert json.loads(processed[0])["answer"] == first["answer"]
    for word in ("train", "test", "question", "answer", "input_ids", "labels"):
        assert word in shown[10]


def _followed(shown: dict[int, str], folder: Path) -> None:
    rows = (folder / "alpaca_processed.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 5 and "### Instruction:" in json.loads(rows[0])["input"]
    assert all(shown[number].strip() for number in (7, 8, 11, 12))
    assert "tuned on the questions and answers of an invented company" in shown[12]


def _prepared(shown: dict[int, str], folder: Path) -> None:
    assert "Good morning, is the kettle ready?" in shown[3]
    lengths = json.loads(shown[5])
    assert len(lengths) == 3 and len(set(lengths)) == 1
    assert "labels" in shown[10] and "test" in shown[10]
    assert "lamini/bts" in shown[12]


def _trained(shown: dict[int, str], folder: Path) -> None:
    assert "attention_mask" in shown[6]
    assert float(re.search(r"Flops ([\d.]+)", shown[9])[1]) > 0
    assert list((folder / "trained_1_step" / "final").glob("*.safetensors"))
    assert not list(folder.rglob("pytorch_model.bin"))
    assert "ForCausalLM" in shown[13]
    assert int(shown[14]) >= 0
    assert "Styler" in shown[16]
    assert shown[17].strip()


def _evaluated(shown: dict[int, str], folder: Path) -> None:
    assert "exact matches:" in shown[7]
    assert "target_answer" in shown[8] and len(shown[8].splitlines()) > 3
    assert "predicted_answer" in shown[9]


CHECKS: dict[str, Callable[[dict[int, str], Path], None]] = {
    "01_compare_models": _compared,
    "02_look_at_data": _looked,
    "03_follow_instructions": _followed,
    "04_prepare_data": _prepared,
    "05_train": _trained,
    "06_evaluate": _evaluated,
}


# --- the runner -----------------------------------------------------------------------------------


@pytest.mark.notebook
def test_without_substitute_it_says_what_is_missing(notebook: Callable, tmp_path: Path) -> None:
    path = of(
        tmp_path / "lab" / "strict.ipynb",
        "from transformers import AutoTokenizer, AutoModelForCausalLM\n"
        "import datasets, pandas as pd",
        'AutoTokenizer.from_pretrained("EleutherAI/pythia-70m")',
        'AutoModelForCausalLM.from_pretrained("EleutherAI/pythia-70m")',
        'datasets.load_dataset("lamini/lamini_docs")',
        'pd.read_json("lamini_docs.jsonl", lines=True)',
        "from utilities import *\nmodel_name_to_id['bigger_model_name']",
        "from llama import BasicModelRunner\nBasicModelRunner('meta-llama/Llama-2-7b-hf')",
    )
    done = notebook(path)
    report = {number: outcome for number, (outcome, _) in results(done).items()}
    assert done.returncode == 1 and "0 ran with notes, 6 can't run" in done.stdout
    for number in (2, 3):
        assert report[number].startswith("can't run: HubError: EleutherAI/pythia-70m is not in the")
        assert "gemma-3-270m" in report[number] and "--substitute" in report[number]
    assert "DataError: lamini/lamini_docs" in report[4] and "--substitute" in report[4]
    assert "Put yours beside the notebook; --substitute writes one" in report[5]
    assert "ModelNameError: bigger_model_name" in report[6] and "gemma-3-270m" in report[7]
    assert not (path.parent / "lamini_docs.jsonl").exists()


@pytest.mark.notebook
def test_cells_fail_one_by_one_installs_are_ignored_and_a_dead_kernel_is_reported(
    notebook: Callable, tmp_path: Path
) -> None:
    which = 'python -c "import sys; print(sys.prefix)"'
    shell = "%%cmd" if os.name == "nt" else "%%bash"
    path = of(
        tmp_path / "lab" / "odd.ipynb",
        "x = 1",
        "x / 0",
        "import no_such_module",
        "from utilities import *\nprint(mine, x + 1)",
        "!pip install -q no-such-package-of-anyones",
        "%pip install no-such-package-of-anyones",
        f"{shell}\npip3 install no-such-package-of-anyones\necho the rest runs",
        f"!{which}",
        f"{shell}\n{which}",
        "from llama2 import BasicModelRunner\nprint(BasicModelRunner.__name__)",
        "import os; os._exit(3)",
        "x",
    )
    # A helper file beside the notebook wins over the packaged one.
    (path.parent / "utilities.py").write_text("mine = 'my own'\n", encoding="utf-8")
    done = notebook(path)
    report, shown = results(done), outputs(tmp_path, "odd")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    failed = {number: outcome for number, (outcome, _) in report.items() if "can't" in outcome}
    assert list(failed) == [2, 3, 11, 12] and "4 can't run" in done.stdout
    assert failed[2] == "can't run: ZeroDivisionError: division by zero"
    assert "No module named 'no_such_module'" in failed[3]
    assert "the kernel died in this cell" in failed[11] and "not run" in failed[12]
    assert shown[4] == "my own 2\n" and "the rest runs" in shown[7]
    for number in (5, 6, 7):
        (note,) = report[number][1]
        assert note.startswith("ignored: ") and "nothing is installed here" in note
        assert "ERROR" not in shown[number]
    assert shown[8].strip() == shown[9].strip() == sys.prefix
    assert shown[10] == "BasicModelRunner\n"


# --- today's libraries accept what the notebooks say ---------------------------------------------


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The libraries changed for one test, with a hub that can't be reached; no substitutes."""
    import datasets
    import transformers

    for owner, name in (
        (transformers.TrainingArguments, "__init__"),
        (transformers.Trainer, "__init__"),
        (transformers.AutoTokenizer, "from_pretrained"),
        (datasets, "load_dataset"),
        (transformers.AutoModelForCausalLM, "from_pretrained"),
    ):
        monkeypatch.setattr(owner, name, vars(owner).get(name) or getattr(owner, name))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(settings, "substitute", False)
    added = not hasattr(transformers.PreTrainedModel, "floating_point_ops")
    taken()
    libraries.adapt()
    yield
    if added:
        del transformers.PreTrainedModel.floating_point_ops
    taken()


def notes() -> list[tuple[str, str]]:
    return [(note["kind"], note["text"]) for note in taken()]


def known() -> list[str]:
    from transformers import TrainingArguments

    return [name for name in inspect.signature(TrainingArguments).parameters if name != "self"]


def test_arguments_of_the_courses_transformers_are_translated_with_a_note() -> None:
    for old, new in libraries.RENAMED.items():
        assert libraries.translated({old: "value"}, known()) == {new: "value"}
        assert notes() == [("translated", f"TrainingArguments: {old} is called {new} today")]
    for old, (value, new, wanted) in libraries.REPLACED.items():
        assert new in known() and old not in known()
        assert libraries.translated({old: value}, known()) == {new: wanted}
        assert libraries.translated({old: not value}, known()) == {}
        assert [kind for kind, _ in notes()] == ["translated", "ignored"]
    removed = libraries.REMOVED.split()
    assert libraries.translated(dict.fromkeys([*removed, "xyzzy"]), known()) == {}
    assert [kind for kind, _ in notes()] == ["ignored"] * (len(removed) + 1)
    assert not set(removed) & set(known()) and set(libraries.RENAMED.values()) <= set(known())
    both = {"evaluation_strategy": "no", "eval_strategy": "steps"}
    assert libraries.translated(both, known()) == {"eval_strategy": "steps"}
    with pytest.raises(SettingError, match="Did you mean 'eval_strategy'"):
        libraries.translated({"evaluation_stratgy": "steps"}, known())


def test_training_arguments_and_trainer_as_in_2023(
    adapted: None, tiny: models.LoadedModel, tmp_path: Path
) -> None:
    from transformers import Trainer, TrainingArguments, default_data_collator

    args = TrainingArguments(
        str(tmp_path / "out"), evaluation_strategy="steps", no_cuda=True, eval_steps=7
    )
    assert args.eval_strategy == "steps" and args.use_cpu and args.eval_steps == 7
    taken()
    trainer = Trainer(tiny.model, args, default_data_collator, None, [], tiny.tokenizer)
    assert trainer.processing_class is tiny.tokenizer
    assert notes() == [("translated", "Trainer: tokenizer is called processing_class today")]
    libraries.adapt()  # a second time changes nothing more
    TrainingArguments(str(tmp_path / "out"), evaluation_strategy="no")
    assert len(notes()) == 1


@pytest.mark.model
def test_a_model_that_is_not_available_is_an_error_or_substituted_each_time(adapted: None) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for kind in (AutoTokenizer, AutoModelForCausalLM):
        with pytest.raises(HubError, match=r"nobody-here/pythia.*gemma-3-270m.*--substitute"):
            kind.from_pretrained("nobody-here/pythia")
    assert notes() == []
    settings.substitute = True
    for name, title in (("nobody-here/small-chat", "SmolLM2"), ("nobody-here/pythia", "Gemma")):
        for _ in range(2):
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
            assert len(tokenizer("Hello").input_ids) > 0
            ignored, substituted = notes()
            assert ignored[0] == "ignored" and "trust_remote_code" in ignored[1]
            assert substituted[0] == "substituted" and title in substituted[1]
    with pytest.raises(UnknownModel, match="no folder 'my_run/final'"):  # never substituted
        AutoTokenizer.from_pretrained("my_run/final", local_files_only=True)


@pytest.mark.model
def test_a_name_that_the_hub_does_not_know_is_never_substituted(
    adapted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError
    from transformers import AutoTokenizer

    def answer(name: str) -> None:
        missing = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
        raise OSError("404") from missing

    monkeypatch.setattr("llmcourse.models.hub.check_reachable", answer)
    settings.substitute = True
    with pytest.raises(HubError, match="EleutherAI/pythai-70m is no model on the hub"):
        AutoTokenizer.from_pretrained("EleutherAI/pythai-70m")
    assert notes() == []
    assert AutoTokenizer.from_pretrained("lamini/lamini_docs_finetuned")  # known to be gone
    assert [kind for kind, _ in notes()] == ["substituted"]


def test_a_folder_loads_in_float32_and_pickled_weights_do_not(
    adapted: None, tiny_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    settings.substitute = True
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, torch_dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_pretrained(str(tiny_folder)).dtype == torch.float32
    assert notes() == []
    (tmp_path / "config.json").write_bytes((tiny_folder / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=False)
    assert [kind for kind, _ in notes()] == ["ignored"]


def test_a_data_set_that_is_not_available(adapted: None, tmp_path: Path) -> None:
    from datasets import IterableDataset, load_dataset

    with pytest.raises(DataError, match=r"lamini/lamini_docs.*--substitute"):
        load_dataset("lamini/lamini_docs")
    with pytest.raises(DataError, match="nobody-here/pairs") as error:
        load_dataset("nobody-here/pairs")
    assert "--substitute" not in str(error.value)  # nothing substitutes for that one
    settings.substitute = True
    with pytest.raises(DataError, match="nobody-here/pairs"):
        load_dataset("nobody-here/pairs")
    assert notes() == []
    stream = load_dataset("c4", "en", split="train", streaming=True, trust_remote_code=True)
    assert isinstance(stream, IterableDataset)
    assert set(next(iter(stream))) == {"text", "timestamp", "url"}
    assert [kind for kind, _ in notes()] == ["ignored", "substituted"]
    assert len(load_dataset("lamini/alpaca", split="train[:3]")) == 3
    with pytest.raises(ValueError, match=r"Unknown split \"tset\""):
        load_dataset("lamini/alpaca", split="tset")


PAIRS = {"question", "answer", "input_ids", "attention_mask", "labels"}
COLUMNS = {  # by the end of the name
    "/c4": {"text", "timestamp", "url"},
    "pile": {"text", "meta"},
    "lamini/alpaca": {"input", "output"},
    "tatsu-lab/alpaca": {"instruction", "input", "output", "text"},
    "evaluation": {"predicted_answer", "target_answer"},
}


@pytest.mark.parametrize("name", sorted(sets.SUBSTITUTES))
@pytest.mark.model
def test_substitutes_have_the_columns_of_the_course(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    found = sets.load(name)
    columns = next((COLUMNS[end] for end in COLUMNS if f"/{name}".endswith(end)), PAIRS)
    for part in found.values():
        assert set(part.column_names) == columns and len(part)
    if columns == PAIRS:
        row = found["test"][0]
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["attention_mask"])
        assert row["labels"][1:] == row["input_ids"][1:]


# --- the helper file ------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A `training_config` for 20 pairs, one of whose questions is too long."""
    rows = (
        {"question": f"What is {n}?" + 99 * (n == 3) * " why?", "answer": f"It is {n}."}
        for n in range(20)
    )
    write_lines(tmp_path / "pairs.jsonl", rows)
    return {"model": {"max_length": 64}, "datasets": {"path": str(tmp_path / "pairs.jsonl")}}


def test_pairs_become_what_a_model_trains_on(
    config: dict[str, Any], tiny: models.LoadedModel, adapted: None
) -> None:
    train, test = helpers.tokenize_and_split_data(config, tiny.tokenizer)
    assert len(train) + len(test) == 19 and [kind for kind, _ in notes()] == ["ignored"]
    again, _ = helpers.tokenize_and_split_data(config, tiny.tokenizer)
    assert again["question"][:] == train["question"][:] != sorted(train["question"][:])
    row = train[0]
    text = tiny.tokenizer.decode(row["input_ids"])
    assert text.startswith(f"### Question:\n{row['question']}\n\n### Answer:\n{row['answer']}")
    assert row["input_ids"][-1] == tiny.tokenizer.eos_token_id
    assert row["labels"][1:] == row["input_ids"][1:]  # the question is trained on as well

    settings.substitute = True
    config["datasets"] = {"use_hf": True, "path": "lamini/lamini_docs"}
    train, test = helpers.tokenize_and_split_data(config, tiny.tokenizer)
    assert max(max(ids) for ids in train["input_ids"]) < len(tiny.tokenizer)
    assert len(test) and "labels" in test.column_names
    for wrong in ({}, {"model": {"max_length": 8}, "datasets": {}}, None):
        with pytest.raises(UserError, match="training_config lacks"):
            helpers.tokenize_and_split_data(wrong, tiny.tokenizer)


def test_the_helper_files_trainer_reports_its_pace(
    config: dict[str, Any], tiny: models.LoadedModel, tmp_path: Path, adapted: None
) -> None:
    from transformers import TrainingArguments

    train, test = helpers.tokenize_and_split_data(config, tiny.tokenizer)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=4,
        logging_steps=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    data = {"train_dataset": train, "eval_dataset": test}
    trainer = helpers.Trainer(tiny.model, args, model_flops=1e6, total_steps=2, **data)
    trainer.train()
    first, last = trainer.history
    assert (first["step"], last["step"]) == (1, 2)
    assert first["seconds_left"] > 0 == last["seconds_left"]
    assert first["flops_a_second"] == pytest.approx(1e6 / first["seconds_a_step"])
    taken()
    # On this tier, as with --steps, a long evaluation is cut short like the training.
    found = trainer.evaluate(train.select([0] * 40))
    asked = found["eval_samples_per_second"] * found["eval_runtime"]
    assert asked == pytest.approx(helpers.EVALUATED, rel=0.1)
    assert "24 of 40 test records" in taken()[0]["text"]


def test_inference_gives_the_answer_without_the_text(tiny: models.LoadedModel) -> None:
    long = "one two three four five six seven eight nine ten"
    cut = tiny.tokenizer.decode(tiny.tokenizer.encode(long, truncation=True, max_length=4))
    found = helpers.inference(long, tiny.model, tiny.tokenizer, 4, 5)
    assert found == helpers.inference(cut, tiny.model, tiny.tokenizer, 1000, 5)
    assert not found.startswith(cut) and len(tiny.tokenizer.encode(found)) <= 8
