"""Try the class's server for real, on this machine alone: `make test-hub`, as root on Linux.

Makes Unix accounts for the purpose, starts the hub, and lets learners do what a class does, all at
the same time. Everything listens on 127.0.0.1; accounts and their files are removed at the end.

    sudo build/hub/bin/python classroom/hub/try_hub.py
    sudo build/hub/bin/python classroom/hub/try_hub.py --learners 6 --lesson 01
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import accounts
import memory
import nbformat
import requests
import websocket

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PREFIX = "hubtry"  # of the accounts made here
accounts.GROUP = f"{PREFIX}-class"  # and not the one of a real class on this machine
SMALL = (
    "from pathlib import Path\nfrom llmcourse import models\n"
    "from llmcourse.generation import generate",
    'chat = models.load("chat")\nanswer = generate(chat, ["What is the capital of France?"])[0]',
    'Path("answer.txt").write_text(str(answer))\nprint(answer)',
)


class Refused(Exception):
    """The hub or a learner's server answered no."""


class Learner:
    """A person with a browser: logs in by the form, then talks to their own server."""

    def __init__(self, hub: str, name: str, password: str) -> None:
        self.hub, self.name, self.password = hub, name, password
        self.web = requests.Session()

    @property
    def home(self) -> Path:
        return Path(pwd.getpwnam(self.name).pw_dir)

    @property
    def server(self) -> str:
        return f"{self.hub}/user/{self.name}"

    def log_in(self) -> None:
        """Log in by the form, as a browser does, then take a token for everything else.

        Raises:
            Refused: the hub does not let this person in.
        """

        def xsrf() -> str:
            return self.web.cookies.get("_xsrf", path="/hub/")

        self.web.get(f"{self.hub}/hub/login")
        form = {"username": self.name, "password": self.password, "_xsrf": xsrf()}
        # (the page that follows would start the server)
        answer = self.web.post(f"{self.hub}/hub/login", data=form, allow_redirects=False)
        if answer.status_code != 302:
            raise Refused(f"{self.name}: {answer.status_code} at the login form")
        self.web.get(f"{self.hub}/hub/home")
        token = self.web.post(
            f"{self.hub}/hub/api/users/{self.name}/tokens",
            headers={"X-XSRFToken": xsrf()},
            json={"note": "try"},
        )
        if not token.ok:
            raise Refused(f"{self.name}: {token.status_code} {token.text[:200]}")
        self.web = requests.Session()  # from here on the token alone
        self.web.headers["Authorization"] = f"token {token.json()['token']}"

    def ask(self, method: str, url: str, **more: object) -> requests.Response:
        """A request with this learner's token.

        Raises:
            Refused: the answer is an error, or a page to log in at.
        """
        answer = self.web.request(method, url, timeout=120, allow_redirects=False, **more)
        if answer.status_code >= 300:
            raise Refused(f"{method} {url}: {answer.status_code}")
        return answer

    def start(self) -> None:
        """Start this learner's server and wait until it answers."""
        self.ask("POST", f"{self.hub}/hub/api/users/{self.name}/server")
        wait_for(self.is_ready, f"{self.name}'s server to start", 180)

    def stop(self) -> None:
        self.ask("DELETE", f"{self.hub}/hub/api/users/{self.name}/server")
        wait_for(lambda: not self.has_server(), f"{self.name}'s server to stop", 60)

    def has_server(self) -> bool:
        """Whether the hub knows a server of this learner's; asks the hub, not the server."""
        return bool(self.ask("GET", f"{self.hub}/hub/api/users/{self.name}").json()["servers"])

    def is_ready(self) -> bool:
        servers = self.ask("GET", f"{self.hub}/hub/api/users/{self.name}").json()["servers"]
        return servers.get("", {}).get("ready", False)

    def pull(self, repository: str) -> None:
        """Open the nbgitpuller link of a repository, which copies it into the home folder."""
        link = {"repo": repository, "targetpath": "course", "branch": "class"}
        events = self.ask("GET", f"{self.server}/git-pull/api", params=link).text
        if '"phase": "finished"' not in events:
            raise Refused(f"{self.name}: the link ended with {events[-300:]}")

    def contents(self, path: str) -> dict:
        return self.ask("GET", f"{self.server}/api/contents/{path}").json()

    def save(self, path: str, notebook: nbformat.NotebookNode) -> None:
        model = {"type": "notebook", "format": "json", "content": notebook}
        self.ask("PUT", f"{self.server}/api/contents/{path}", json=model)

    @contextlib.contextmanager
    def kernel(self, path: str = "") -> Iterator[Kernel]:
        """A kernel as JupyterLab starts it for the notebook `path`; it is left running."""
        body = {"path": path or "scratch.ipynb", "name": "", "type": "notebook"}
        body["kernel"] = {"name": "python3"}
        session = self.ask("POST", f"{self.server}/api/sessions", json=body).json()
        kernel = Kernel(self, session["kernel"]["id"])
        try:
            yield kernel
        finally:
            kernel.socket.close()

    def run_notebook(self, path: str) -> None:
        """Run all cells, and save the notebook after each, as a person does.

        Raises:
            RuntimeError: a cell failed.
        """
        notebook = nbformat.from_dict(self.contents(path)["content"])
        with self.kernel(path) as kernel:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs = kernel.run(cell.source)
                    self.save(path, notebook)


class Kernel:
    """A kernel of a learner's, by the websocket that a browser uses."""

    def __init__(self, learner: Learner, number: str) -> None:
        self.session = uuid.uuid4().hex
        address = f"{learner.server}/api/kernels/{number}/channels?session_id={self.session}"
        self.socket = websocket.create_connection(
            address.replace("http", "ws", 1),
            header=[f"Authorization: {learner.web.headers['Authorization']}"],
            timeout=900,
        )

    def send(self, code: str) -> str:
        """Send code to run; returns the number of the message."""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "username": ""}
        header |= {"session": self.session, "version": "5.3", "date": datetime.now(UTC).isoformat()}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        # After an error the kernel would pass over a cell that comes too soon, without a word.
        content |= {"allow_stdin": False, "stop_on_error": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
        return number

    def messages(self) -> Iterator[dict]:
        while True:
            received = self.socket.recv()
            if isinstance(received, str):  # others are pictures of widgets and the like
                yield json.loads(received)

    def run(self, code: str) -> list[nbformat.NotebookNode]:
        """The outputs of a cell.

        Raises:
            RuntimeError: it failed, with its traceback's last line.
        """
        number, outputs, error = self.send(code), [], ""
        for message in self.messages():
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind in ("stream", "display_data", "execute_result"):
                outputs.append(nbformat.v4.output_from_msg(message))
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                if error:
                    raise RuntimeError(error)
                return outputs
        raise AssertionError("unreachable")


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    """What a cell printed."""
    return "".join(output.get("text", "") for output in outputs)


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it did not in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {seconds:.0f} s for {what}.")
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hub:
    """A hub with the class's own configuration, in a folder of its own."""

    def __init__(self, folder: Path, cache: Path, proxy: str) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "hub.log"
        self.environment = os.environ | {
            "CLASS_ADDRESS": self.address,
            "CLASS_STATE": str(folder / "state"),
            "CLASS_CACHE": str(cache),
            "CLASS_GROUP": accounts.GROUP,
            "CLASS_THREADS": "1",
            "CLASS_PROXY": proxy,
            "LLMCOURSE_TIER": "smoke",
        }
        self.ports = [f"--JupyterHub.hub_port={free_port()}"]
        self.ports.append(f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}")
        self.process: subprocess.Popen | None = None

    def start(self, **settings: str) -> None:
        command = [sys.executable, "-m", "jupyterhub", *self.ports]
        command += ["-f", str(HERE / "jupyterhub_config.py")]
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment | settings,
                cwd=self.log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self.answers, "the hub to start", 120)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("The hub stopped; its log is above.")
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.address}/hub/api/", timeout=5).ok
        return False

    def stop(self) -> None:
        if self.process:
            self.process.terminate()  # it stops the servers and the proxy as well
            self.process.wait(60)
            self.process = None


class Trial:
    """The checks, in order; each is a method whose first line of documentation is its name."""

    def __init__(self, hub: Hub, people: list[Learner], lesson: str, repository: str) -> None:
        self.hub, self.people, self.lesson, self.repository = hub, people, lesson, repository
        self.notebook = ""
        self.everybody = ThreadPoolExecutor(len(people))

    def all_at_once(self, work: Callable[[Learner], object]) -> None:
        list(self.everybody.map(work, self.people))

    def strangers(self) -> None:
        """Nobody without a password gets in: locked, empty, wrong, outside the group, no token"""
        address, first = self.hub.address, self.people[0]
        for name, password in (
            (f"{PREFIX}-locked", ""),
            (f"{PREFIX}-locked", "!"),
            (f"{PREFIX}-empty", ""),
            (first.name, ""),
            (first.name, "wrong"),
            (f"{PREFIX}-outside", f"{PREFIX}-outside"),
            ("nobody-here", "x"),
        ):
            must_be_refused(Learner(address, name, password).log_in)
        nobody = Learner(address, first.name, "")
        must_be_refused(lambda: nobody.ask("GET", f"{address}/hub/api/users"))
        must_be_refused(lambda: nobody.ask("POST", f"{address}/hub/api/users/{first.name}/server"))

    def log_in(self) -> None:
        """All log in by the form and start their servers at the same time"""
        self.all_at_once(Learner.log_in)
        self.all_at_once(Learner.start)
        for person in self.people:
            assert memory.pids_of(pwd.getpwnam(person.name).pw_uid), "not under its own account"

    def pull(self) -> None:
        """The link copies the lessons into each learner's folder"""
        self.all_at_once(lambda person: person.pull(self.repository))
        if self.lesson:
            found = self.people[0].contents("course/notebooks")["content"]
            names = [entry["name"] for entry in found]
            [name] = [n for n in names if n.startswith(self.lesson) and n.endswith(".ipynb")]
            self.notebook = f"course/notebooks/{name}"
        else:
            self.notebook = "small.ipynb"
            cells = [nbformat.v4.new_code_cell(source) for source in SMALL]
            self.all_at_once(lambda p: p.save(self.notebook, nbformat.v4.new_notebook(cells=cells)))

    def run(self) -> None:
        """All run the notebook at the same time and finish, with the models of the shared cache"""
        start = time.monotonic()
        self.all_at_once(lambda person: person.run_notebook(self.notebook))
        print(f"   {len(self.people)} learners, {self.notebook}: {time.monotonic() - start:.0f} s")
        together = {"total": 0.0, "private": 0.0}
        for person in self.people:
            kernels, servers = [], []
            for pid in memory.pids_of(pwd.getpwnam(person.name).pw_uid):
                command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
                (kernels if "kernel.py" in command else servers).append(pid)
            for name, pids in (("server", servers), ("kernel", kernels)):
                found = memory.pss(pids)
                print(f"   {person.name} {name}: {found['total']:.0f} MB", end="")
                print(f", {found['private']:.0f} of them private")
                together = {key: together[key] + found[key] for key in together}
            cells = person.contents(self.notebook)["content"]["cells"]
            assert any(cell.get("outputs") for cell in cells)
            assert not list(person.home.glob(".cache/llmcourse/*-v1"))  # no model of their own
        print(f"   all learners: {together['total']:.0f} MB, {together['private']:.0f} private")

    def neighbours(self) -> None:
        """Nobody can read a neighbour's files, change the shared models or use another's server"""
        first, second = self.people[:2]
        cache = self.hub.environment["CLASS_CACHE"]
        with second.kernel() as kernel:
            for code in (
                f"open({str(first.home / self.notebook)!r}).read()",
                f"__import__('os').listdir({str(first.home)!r})",
                f"open({cache + '/x'!r}, 'w')",
                f"open({self.hub.environment['CLASS_STATE'] + '/jupyterhub.sqlite'!r}, 'rb')",
            ):
                try:
                    kernel.run(code)
                except RuntimeError as error:
                    assert "PermissionError" in str(error), str(error)
                else:
                    raise AssertionError(f"{second.name} may do {code}")
        must_be_refused(lambda: second.ask("GET", f"{first.server}/api/contents"))
        must_be_refused(lambda: second.ask("GET", f"{self.hub.address}/hub/api/users/{first.name}"))

    def killed(self) -> None:
        """A server that is killed loses nothing that was saved"""
        person = self.people[0]
        before = person.contents(self.notebook)["content"]
        for pid in memory.pids_of(pwd.getpwnam(person.name).pw_uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not person.has_server(), "the hub to notice", 90)
        person.start()
        assert person.contents(self.notebook)["content"] == before

    def out_of_memory(self) -> None:
        """A kernel that runs out of memory says so in words"""
        person = self.people[0]
        with limited(pwd.getpwnam(person.name).pw_uid, 1_500_000_000), person.kernel() as kernel:
            kernel.run("x = 1")
            kernel.send("x = b'x' * 3_000_000_000")
            for message in kernel.messages():  # until the server has started it again
                status = message["content"].get("execution_state")
                if status in ("restarting", "autorestarting"):
                    break
            time.sleep(5)
        with person.kernel() as kernel:  # the same one: a session has one kernel
            said = text_of(kernel.run("'x' in dir()"))
            assert "The memory ran out" in said, repr(said)
            assert "memory" not in text_of(kernel.run("2")), "said twice"

    def idle(self) -> None:
        """An idle server is stopped; a cell that runs silently with the browser closed is not"""
        self.all_at_once(lambda person: person.has_server() and person.stop())
        self.hub.stop()
        self.hub.start(CLASS_IDLE="10")
        busy, idle = self.people[:2]
        for person in (busy, idle):
            person.start()
        with busy.kernel() as kernel:
            kernel.send("import time; time.sleep(100); open('finished', 'w').close()")
        with idle.kernel() as kernel:
            kernel.run("1")
        # (asking the server itself would count as activity)
        wait_for(lambda: not idle.has_server(), "the idle server to stop", 200)
        wait_for((busy.home / "finished").exists, "the silent cell to finish", 150)


def must_be_refused(work: Callable[[], object]) -> None:
    try:
        work()
    except Refused:
        return
    raise AssertionError("this was not refused")


@contextlib.contextmanager
def limited(uid: int, most: int) -> Iterator[None]:
    """Put all processes of an account under a memory limit, as systemd does; needs cgroups."""
    old = Path("/sys/fs/cgroup/memory")
    top, key = (old, "limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "max")
    group = top / f"{PREFIX}-{uid}"
    group.mkdir()
    home = top / "cgroup.procs"
    try:
        (group / f"memory.{key}").write_text(str(most))
        for pid in memory.pids_of(uid):
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                home.write_text(pid)
        group.rmdir()


@contextlib.contextmanager
def class_accounts(learners: int) -> Iterator[list[tuple[str, str]]]:
    """Accounts for the trial, and three that must not get in; removed at the end."""
    people = [(f"{PREFIX}{n + 1}", accounts.new_password()) for n in range(learners)]
    others = [f"{PREFIX}-{kind}" for kind in ("locked", "empty", "outside")]
    names = [name for name, _ in people] + others
    if taken := [name for name in names if accounts.exists(name)]:
        raise SystemExit(f"error: accounts {', '.join(taken)} exist. Remove them first.")
    try:
        for name, password in people:
            accounts.make(name, password)
        for name in others:
            accounts.make(name, name)
        subprocess.run(["usermod", "--lock", others[0]], check=True)
        subprocess.run(["passwd", "--quiet", "--delete", others[1]], check=True)
        subprocess.run(["gpasswd", "--delete", others[2], accounts.GROUP], check=True, stdout=-3)
        yield people
    finally:
        for name in filter(accounts.exists, names):
            for pid in memory.pids_of(pwd.getpwnam(name).pw_uid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["userdel", "--remove", name], stderr=subprocess.DEVNULL)
        subprocess.run(["groupdel", accounts.GROUP], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def repository(folder: Path) -> Iterator[str]:
    """The address of a copy of this repository, offered on 127.0.0.1 as a host of code would."""
    bare = folder / "repositories" / "course"
    subprocess.run(["git", "clone", "-q", "--bare", str(ROOT), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "branch", "-f", "class", "HEAD"], check=True)
    port = free_port()
    command = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen([*command, f"--base-path={bare.parent}"], start_new_session=True)
    try:
        yield f"git://127.0.0.1:{port}/course"
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)  # git starts the daemon as a program of its own
        daemon.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, default=3, help="at least 2; default: %(default)s")
    parser.add_argument("--lesson", default="", metavar="NN", help="default: a small notebook")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "hub-models")
    options = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("error: this makes accounts and needs root on Linux: use sudo.", file=sys.stderr)
        return 1
    try:
        import jupyterhub  # noqa: F401
    except ImportError:
        print("error: install classroom/hub/requirements.txt first.", file=sys.stderr)
        return 1
    beside = Path(sys.prefix) / "node_modules" / ".bin"
    proxy = shutil.which("configurable-http-proxy", path=f"{beside}:{os.environ['PATH']}")
    if not proxy:
        print("error: npm install -g configurable-http-proxy@5.3.0 first.", file=sys.stderr)
        return 1
    environment = os.environ | {"LLMCOURSE_CACHE": str(options.cache)}
    subprocess.run(
        [sys.executable, "-m", "llmcourse", "prefetch", "--share"], env=environment, check=True
    )
    failed = passed = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        folder.chmod(0o711)
        people = stack.enter_context(class_accounts(options.learners))
        hub = Hub(folder, options.cache, proxy)
        uid = pwd.getpwnam(people[0][0]).pw_uid
        try:
            test = [sys.executable, "-c", "import llmcourse"]
            subprocess.run(test, user=uid, group=uid, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            print(
                f"error: other accounts can't run {sys.executable}. Make the environment with a "
                "Python outside of a home folder, /usr/bin/python3 for example.",
                file=sys.stderr,
            )
            return 1
        address = stack.enter_context(repository(folder))
        stack.callback(hub.stop)
        learners = [Learner(hub.address, *person) for person in people]
        trial = Trial(hub, learners, options.lesson, address)
        hub.start()
        for check in (
            trial.strangers,
            trial.log_in,
            trial.pull,
            trial.run,
            trial.neighbours,
            trial.killed,
            trial.out_of_memory,
            trial.idle,
        ):
            try:
                check()
            except Exception:
                failed += 1
                print(f"FAILED  {check.__doc__}", flush=True)
                traceback.print_exc()
            else:
                passed += 1
                print(f"ok  {check.__doc__}", flush=True)
        if failed:
            print(hub.log.read_text(encoding="utf-8")[-6000:], file=sys.stderr)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
