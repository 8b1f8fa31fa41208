"""What this machine is, what is installed, and how long the lessons will take on it."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llmcourse import models, notebooks, tiers
from llmcourse.errors import CourseError
from llmcourse.files import cache_dir, free_bytes, shown, work_dir
from llmcourse.models import hub

NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "gguf", "accelerate",
          "huggingface-hub", "numpy", "pandas", "datasets", "matplotlib", "ipython")  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        name: What was looked at.
        found: What was found.
        advice: What to do; "" where all is well.
    """

    name: str
    found: str
    advice: str = ""

    @property
    def well(self) -> bool:
        """True where nothing needs to be done."""
        return not self.advice


def examine() -> list[Check]:
    """Look at everything a lesson needs. Nothing is changed, and no model is loaded."""
    checks = [_python(), *_packages(), _memory(), _disk()]
    if all(check.well for check in checks if check.name in ("torch", "transformers")):
        checks.append(_compute())
    checks += [_tier(), *_models(), *_times()]
    return checks


def _python() -> Check:
    old = sys.version_info < (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("Python", found, "Install Python 3.11 or newer." if old else "")


def _packages() -> list[Check]:
    checks = []
    for name in NEEDED:
        try:
            checks.append(Check(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            checks.append(Check(name, "missing", "pip install -r requirements.txt"))
    return checks


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    try:
        kind = notebooks.number_type()
    except (CourseError, ImportError, OSError):  # another line tells
        kind = "float32"  # which takes more
    lessons = notebooks.published_times("cpu", kind).values()
    needed = max((lesson["peak_gb"] for lesson in lessons), default=3.0)
    short = memory.available < needed * 1e9
    advice = f"Close other programs: a lesson needs up to {needed:g} GB." if short else ""
    return Check("Memory", found, advice)


def _disk() -> Check:
    free, needed = free_bytes(cache_dir()), sum(m.disk for m in models.PACKAGED.values())
    there = all(models.is_converted(name) for name in models.PACKAGED)
    advice = ""
    if free < needed and not there:
        advice = f"Free {needed / 1e9:.1f} GB, or set LLMCOURSE_CACHE to a larger disk."
    return Check("Disk", f"{free / 1e9:.0f} GB free for models, in {shown(cache_dir())}", advice)


def _compute() -> Check:
    try:
        device, dtype = tiers.device(), tiers.dtype()
    except CourseError as error:
        return Check("Device", "unknown", str(error))
    cores = os.cpu_count() or 1
    name = f"{cores} cores" if device.type == "cpu" else _gpu_name()
    return Check("Device", f"{device.type} ({name}), {dtype}".replace("torch.", ""))


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU"


def _tier() -> Check:
    try:
        tier = tiers.current()
        pair = tiers.pair(tier)
    except CourseError as error:
        return Check("Tier", "unknown", str(error))
    return Check("Tier", f"{tier.name}, for {tier.purpose}: {pair.base} and {pair.chat}")


def _models() -> list[Check]:
    checks = []
    try:
        names = {role: models.resolve(role) for role in models.ROLES}
    except CourseError:
        return []
    for role, name in names.items():
        label = f"{role.capitalize()} model"
        if name not in models.PACKAGED:
            there = Path(name).is_dir() or hub.is_cached(name)
            advice = "" if there else "Run `python -m llmcourse prefetch` while online."
            checks.append(Check(label, f"{name}, {'' if there else 'not '}downloaded", advice))
        elif models.is_converted(name):
            checks.append(Check(label, f"{name}, ready"))
        else:
            try:
                models.part_paths(models.PACKAGED[name])
                found = f"{name}, installed; the first use unpacks it (about a minute)"
                checks.append(Check(label, found))
            except CourseError as error:
                checks.append(Check(label, f"{name}, missing", str(error)))
    return checks


def _times() -> list[Check]:
    try:
        tier = tiers.current().name
        names = [path.stem for path in notebooks.find(notebooks.folder())]
        notebooks.number_type()  # the line on the device tells what is wrong with it
    except CourseError:
        return []
    seconds = notebooks.expected_seconds(names, tier)
    total = notebooks.duration(sum(seconds.values()))
    each = ", ".join(f"{name[:2]} {notebooks.duration(s)}" for name, s in seconds.items())
    return [Check("Lessons", f"about {total} in all ({each})"),
            Check("Your files", shown(work_dir()))]  # fmt: skip


def _wrapped(text: str, begin: str) -> list[str]:
    """`text` after `begin` in lines of at most 88 signs, cut between words only."""
    return textwrap.wrap(
        text, 88, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_long_words=False, break_on_hyphens=False,
    ) or [begin.rstrip()]  # fmt: skip


def report(checks: list[Check] | None = None) -> str:
    """The examination as text: one line a check, what to do below it."""
    checks = examine() if checks is None else checks
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        begin = f"{'ok ' if check.well else '!! '} {check.name:<{width}}  "
        lines += _wrapped(check.found, begin)
        lines += [f"{'':<{width + 6}}{row}" for row in check.advice.splitlines()]
    troubles = sum(not check.well for check in checks)
    lines.append("")
    lines.append("All is well." if not troubles else f"{troubles} thing(s) to mend, marked !!")
    return "\n".join(lines)
