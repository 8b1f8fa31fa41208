"""Every test, notebooks among them, runs on the smoke tier with a ledger and files of its own."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

os.environ["LLMCOURSE_TIER"] = "smoke"
for setting in ("LLMCOURSE_MODELS", "LLMCOURSE_DTYPE", "LLMCOURSE_DEVICE"):
    os.environ.pop(setting, None)
os.environ["LLMCOURSE_WORK"] = tempfile.mkdtemp(prefix="llmcourse-test-work-")
atexit.register(shutil.rmtree, os.environ["LLMCOURSE_WORK"], ignore_errors=True)
# Debuggers warn about frozen modules when notebooks' kernels start.
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"

# --- the tests of `make check` load no model and run no notebook ----------------------------------

MODELS = {
    "base32",
    "chat32",
    "tiny_folder",
    "serving",  # tests/conftest.py, tests/test_hosted.py
    "tokenizer",
    "tokenizers",
    "gemma",
    "smol",
    "index",  # of single files
}


def pytest_configure(config: pytest.Config) -> None:
    """Where models are left out, let none be unpacked: a test without its mark must fail."""
    if "not model" in config.option.markexpr:
        os.environ["LLMCOURSE_CACHE"] = str(Path(__file__) / "no folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MODELS & set(getattr(item, "fixturenames", ())):
            item.add_marker("model")
        if item.path.suffix == ".ipynb" or "notebook" in getattr(item, "fixturenames", ()):
            item.add_marker("notebook")


# It needs trl, which the course does without: `make peer` runs it in an environment that has trl.
collect_ignore = ["notebooks/more/05_sfttrainer.ipynb"]
# tests/test_exercises.py runs them, without a kernel each.
collect_ignore_glob = ["notebooks/solutions/*.ipynb"]
# The lessons run with the real models. What goes further runs with small random ones, but for the
# notebook that stops a training halfway: a small one would be done before.
MORE = Path(__file__).parent / "notebooks" / "more"
REAL = ("05_save_resume_sizes",)

# --- notebooks run with every connection but loopback refused ------------------------------------

GUARD = str(Path(__file__).parent / "tests" / "guard")
GUARD_LOG = Path(os.environ["LLMCOURSE_WORK"]) / "guard.log"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Let the kernel that a notebook's first cell starts inherit the guard."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.suffix == ".ipynb":
            patch.setenv("PYTHONPATH", GUARD)
            patch.setenv("LLMCOURSE_GUARD_LOG", str(GUARD_LOG))
            if item.path.parent == MORE and item.path.stem not in REAL:
                from tests.small_models import small_cache

                patch.setenv("LLMCOURSE_CACHE", small_cache())
                # the lessons' trainings are on other models
                patch.setenv("LLMCOURSE_WORK", str(Path(small_cache(), "work")))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a cell that tried to reach another machine, even if it swallowed the refusal."""
    yield
    if item.path.suffix == ".ipynb" and GUARD_LOG.exists():
        told = GUARD_LOG.read_text(encoding="utf-8")
        GUARD_LOG.unlink()
        pytest.fail(f"the cell tried to reach {told}", pytrace=False)
