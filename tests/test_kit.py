"""The offline kit: what it holds, how it is offered, and what a laptop's set-up refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest

from classroom import kit, serve
from tests.conftest import ROOT

# --- which wheels a laptop needs ------------------------------------------------------------------

LINES = [
    "# a comment",
    "everywhere==1.0  # via course",
    "torch==2.0",
    "mac==1.0 ; sys_platform == 'darwin'",
    "windows==1.0 ; os_name == 'nt' and platform_machine == 'AMD64'",
    "changed==1.0 ; python_full_version < '3.12'",
    "changed==2.0 ; python_full_version >= '3.12'",
    "patched==1.0 ; python_full_version < '3.11.5'",
    "patched==2.0 ; python_full_version >= '3.11.5'",
]


@pytest.mark.parametrize(
    ("platform", "python", "first", "later"),
    [
        (
            "linux-x86_64",
            "3.11",
            ["everywhere==1.0", "torch==2.0+cpu", "changed==1.0", "patched==1.0"],
            ["patched==2.0"],
        ),
        (
            "macos-arm64",
            "3.12",
            ["everywhere==1.0", "torch==2.0", "mac==1.0", "changed==2.0", "patched==2.0"],
            [],
        ),
        (
            "windows-amd64",
            "3.13",
            ["everywhere==1.0", "torch==2.0", "windows==1.0", "changed==2.0", "patched==2.0"],
            [],
        ),
    ],
)
def test_markers_are_those_of_the_laptop_not_of_this_machine(
    platform: str, python: str, first: list[str], later: list[str]
) -> None:
    needed = kit.pins(LINES, kit.Target(platform, python))
    assert needed == {f"{python}.0": first, f"{python}.99": later}


def test_every_pin_of_the_course_has_markers_that_all_laptops_can_answer() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = {
        (platform, python): kit.pins(lines, kit.Target(platform, python))
        for platform in kit.PLATFORMS
        for python in kit.PYTHONS
    }
    names = {key: [pin.split("==")[0] for pin in one[f"{key[1]}.0"]] for key, one in needed.items()}
    assert all(len(set(one)) == len(one) > 100 for one in names.values())  # one version of each
    assert (
        "pywinpty" in names["windows-amd64", "3.11"] and "appnope" in names["macos-arm64", "3.13"]
    )
    assert "pywinpty" not in names["linux-x86_64", "3.12"]


def wheel(folder: Path, name: str, tag: str, version: str = "1.0") -> str:
    """A wheel that pip takes, of a package without files."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", head)
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{info}/RECORD", "")
    return path.name


def test_wheels_are_taken_for_the_laptop_and_all_that_have_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, out = tmp_path / "index of wheels", tmp_path / "kit"
    index.mkdir()
    out.mkdir()
    pure = wheel(index, "pure", "py3-none-any")
    windows = wheel(index, "compiled", "cp312-cp312-win_amd64")
    wheel(index, "compiled", "cp312-cp312-manylinux_2_17_x86_64")
    stable = wheel(index, "stable", "cp39-abi3-win_amd64")
    wheel(index, "old", "cp311-cp311-win_amd64")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", index.as_uri())
    names = ("old", "pure", "compiled", "unknown", "stable")
    target = kit.Target("windows-amd64", "3.12")
    found, missing = kit.collect([f"{name}==1.0" for name in names], target, out, "")
    assert sorted(found) == sorted([pure, windows, stable])
    assert {path.name for path in out.iterdir()} == set(found)
    assert missing == ["old==1.0", "unknown==1.0"]


def test_torch_comes_from_the_source_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builds").mkdir()
    (tmp_path / "kit").mkdir()
    cpu = wheel(tmp_path / "builds", "torch", "cp313-cp313-manylinux_2_28_aarch64", "1.0+cpu")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    target = kit.Target("linux-aarch64", "3.13")
    asked = {"lines": ["torch==1.0"], "target": target, "folder": tmp_path / "kit"}
    nothing = kit.collect(**asked, torch_from=str(tmp_path / "kit"))
    assert nothing == ([], ["torch==1.0+cpu"])
    assert kit.collect(**asked, torch_from=str(tmp_path / "builds")) == ([cpu], [])


# --- a small kit ----------------------------------------------------------------------------------


def script() -> ModuleType:
    """install_kit.py as a module."""
    path = ROOT / "classroom" / "kit_files" / "install_kit.py"
    spec = importlib.util.spec_from_file_location("install_kit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A kit for this machine: a wheel, a model, and a course whose `install.py` notes it ran."""
    folder = tmp_path / "USB stick" / "kit"
    target = script().target()
    note = "import json, os, pathlib\npathlib.Path(__file__).with_name('ran').write_text("
    venv = "\nimport subprocess, sys; subprocess.run([sys.executable, '-m', 'venv', "
    contents = {
        "wheels/some.whl": os.urandom(5000),
        "course/install.py": (
            note
            + "os.environ['LLMCOURSE_KIT'])"
            + venv
            + "'--without-pip', pathlib.Path(__file__).with_name('.venv')], check=True)\n"
        ).encode(),
        "course/notebooks/01.ipynb": b"{}",
        "course/llmcourse/__init__.py": b"",
        "course/llmcourse/files.py": b"import os\ndef cache_dir(): return os.environ['CACHE']\n",
        "models/tiny-v1/model.safetensors": os.urandom(3_000_000),
        "models/tiny-v1/NOTICE.txt": b"Changed.",
        "README.txt": b"Read me.",
    }
    files = {}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        files[name] = [len(content), hashlib.sha256(content).hexdigest()]
    listed = {"course": "1", "targets": {target: ["wheels/some.whl"]}, "files": files}
    (folder / "kit.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def address(small: Path) -> str:
    """The small kit, offered by the real server in a process of its own."""
    code = (
        "import sys, asyncio; from pathlib import Path; from classroom import serve\n"
        "from tornado import httpserver, netutil\n"
        "async def run():\n"
        "    (socket,) = netutil.bind_sockets(0, '127.0.0.1')\n"
        "    server = httpserver.HTTPServer(serve.application(Path(sys.argv[1])))\n"
        "    server.add_socket(socket)\n"
        "    print(socket.getsockname()[1], flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(run())"
    )
    command = [sys.executable, "-c", code, str(small)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()


def ask(address: str, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(address, timeout=30)
    connection.putrequest(method, path)  # as it is: a client's library would tidy the path
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_files_are_sent_whole_and_from_a_byte_on(small: Path, address: str) -> None:
    content = (small / "wheels" / "some.whl").read_bytes()
    assert ask(address, "GET", "/wheels/some.whl") == (200, content)
    assert ask(address, "GET", "/wheels/some.whl", Range="bytes=4000-") == (206, content[4000:])
    assert ask(address, "GET", "/wheels/some.whl", Range="bytes=10-19") == (206, content[10:20])
    assert ask(address, "GET", "/wheels/some.whl", Range="bytes=9000-")[0] == 416
    assert ask(address, "GET", "/") == (200, b"Read me.")


def test_nothing_outside_the_folder_is_sent_and_nothing_is_taken(small: Path, address: str) -> None:
    secret = small.parent / "secret.txt"
    secret.write_text("secret")
    for path in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        f"/{quote(secret.as_posix())}",
        "/wheels/../../secret.txt",
    ):
        status, body = ask(address, "GET", path)
        assert status in (403, 404) and b"secret" not in body, path
    if os.name != "nt":  # making links needs rights there
        (small / "link.txt").symlink_to(secret)
        assert ask(address, "GET", "/link.txt")[0] == 403
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert ask(address, method, "/wheels/some.whl", **{"Content-Length": "0"})[0] == 405
    assert ask(address, "GET", "/wheels/some.whl")[0] == 200


def test_only_a_complete_kit_is_offered(tmp_path: Path) -> None:
    from llmcourse.cli import main

    (tmp_path / "private.txt").touch()
    assert main(["serve-kit", str(tmp_path)]) == 1
    with pytest.raises(serve.SettingError, match="is no complete offline kit: make one"):
        serve.application(tmp_path)


# --- a laptop is set up ---------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["folder", "network"])
def test_a_laptop_is_set_up_and_notebooks_of_the_learner_stay(
    small: Path,
    tmp_path: Path,
    over: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = str(small)
    if over == "network":
        source = f"http://{request.getfixturevalue('address')}"
    to, cache = tmp_path / "my course", tmp_path / "cache"
    monkeypatch.setenv("CACHE", str(cache))
    assert script().main([source, "--to", str(to)]) == 0
    wheels = small if over == "folder" else to / ".kit"
    assert (to / "ran").read_text() == str(wheels / "wheels")
    assert not (to / ".kit").exists()
    made = cache / "tiny-v1"
    assert {path.name for path in made.iterdir()} == {"model.safetensors", "NOTICE.txt"}
    assert [path.name for path in cache.iterdir()] == ["tiny-v1"]

    (to / "notebooks" / "01.ipynb").write_text('{"mine": 1}')
    (to / "llmcourse" / "files.py").write_text("old")
    assert script().main([source, "--to", str(to)]) == 0
    assert (to / "notebooks" / "01.ipynb").read_text() == '{"mine": 1}'
    assert (to / "llmcourse" / "files.py").read_text() != "old"


@pytest.mark.parametrize("after", range(1, 7))
def test_a_stopped_set_up_goes_on(
    small: Path, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before any of its files, among them the course's `install.py` and the model's."""
    monkeypatch.setenv("CACHE", str(tmp_path / "cache"))
    install, calls = script(), []
    get = install.get

    def stopped(*given: object) -> None:
        calls.append(given)
        if len(calls) == after:
            raise KeyboardInterrupt
        get(*given)

    monkeypatch.setattr(install, "get", stopped)
    arguments = [str(small), "--to", str(tmp_path / "course")]
    assert install.main(arguments) == 130
    assert script().main(arguments) == 0
    assert (tmp_path / "cache" / "tiny-v1" / "model.safetensors").is_file()
    assert not (tmp_path / "course" / ".kit").exists()


def test_a_download_that_broke_off_goes_on_where_it_was(
    small: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = script()
    name = "models/tiny-v1/model.safetensors"
    listed = install.manifest(f"http://{address}")
    content = (small / name).read_bytes()
    (tmp_path / "model.part").write_bytes(content[:1_000_000])
    starts = []
    opened = install.opened
    monkeypatch.setattr(
        install, "opened", lambda kit, name, start: starts.append(start) or opened(kit, name, start)
    )
    install.get(f"http://{address}", name, tmp_path / "model", listed)
    assert starts == [1_000_000]
    assert (tmp_path / "model").read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "wheels/some.whl is missing from the kit, and .* needs it. Copy the kit again"),
        ("damaged", "wheels/some.whl of the kit is damaged or incomplete. Copy the kit again"),
        ("python", r"has packages for Python 3.99 here, and this is Python 3.\d+. Start it with"),
        ("system", "has packages for amiga-m68k-3.11, and this is .* Ask your teacher"),
        ("no kit", "there is no complete kit .* Name its folder, or the address"),
        ("other files", "has other files in it. Name another folder with --to"),
    ],
)
@pytest.mark.parametrize("over", ["folder", "network"])
def test_what_is_wrong_is_said_before_anything_is_installed(
    small: Path,
    tmp_path: Path,
    over: str,
    fault: str,
    message: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture,
) -> None:
    install = script()
    to, listed = tmp_path / "course", json.loads((small / "kit.json").read_text())
    wheel = small / "wheels" / "some.whl"
    if fault == "missing":
        wheel.unlink()
    elif fault == "damaged":
        wheel.write_bytes(b"x" * 5000)
    elif fault in ("python", "system"):
        here = install.target().rsplit("-", 1)[0]
        name = f"{here}-3.99" if fault == "python" else "amiga-m68k-3.11"
        (small / "kit.json").write_text(json.dumps(listed | {"targets": {name: []}}))
    elif fault == "other files":
        to.mkdir()
        (to / "thesis.txt").touch()
    source = str(small) if over == "folder" else f"http://{request.getfixturevalue('address')}"
    if fault == "no kit":
        (small / "kit.json").unlink()
        if over == "network":
            message = "a kit can't be reached .* Name its folder, or the address"
    assert install.main([source, "--to", str(to)]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error
    assert not (to / "ran").exists()


def test_the_package_is_set_up_from_a_kit_without_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """`install.py` gives pip the kit's wheels and nothing else."""
    monkeypatch.setenv("LLMCOURSE_KIT", "/media/USB stick/wheels")
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install, "finish", lambda made: 0)
    assert install.get_models({}) == 0
    (call,) = calls
    assert "--no-index" in call
    assert call[call.index("--find-links") + 1] == "/media/USB stick/wheels"
    assert Path(call[-1]) == Path("/media/USB stick/wheels/requirements-models.txt")
