"""Hosted models: a real server on this machine, one that fails on purpose, and a key unseen."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator

import nbformat
import psutil
import pytest

from llmcourse import generation, hosted, models
from llmcourse.errors import (
    APIError,
    AuthenticationError,
    CourseError,
    ModelNameError,
    RateLimitError,
    SettingError,
    UnavailableResourceError,
    causes,
)
from tests import faulty_proxy as faulty

pytest.importorskip("openai", reason="pip install -r requirements-hosted.txt")

SECRET = "sk-test-4f9a1c77-not-for-anyones-eyes"
QUESTIONS = ["What is the capital of France?", "What is 2 + 2?", "Name a colour of the rainbow."]
GOOD = faulty.answers("Paris.")


@pytest.fixture(autouse=True)
def no_connections_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's key and server nor a proxy of the network is used."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def ask(url: str, prompts: str | list[str] = "Hi", **options: object) -> list[str]:
    """`hosted.ask` with the secret key, without patience."""
    server = hosted.Server(url, SECRET)
    return hosted.ask(prompts, "some-model", server, **{"retries": 0, "progress": False} | options)


def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]


# --- a real server ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The packaged chat model in float32, behind `transformers serve`: its address and name."""
    folder, port = str(models.convert("smollm2-135m-instruct")), str(free_port())
    log = tmp_path_factory.mktemp("serving") / "serve.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    command += ["--host", "127.0.0.1", "--port", port, "--device", "cpu", "--dtype", "float32"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                opener.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                alive = process.poll() is None and time.monotonic() < deadline
                assert alive, log.read_text("utf-8", "replace")
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        for each in (process, *children):
            each.kill()
        process.wait(30)


def test_the_real_server_answers_as_the_model_here_in_order(
    serving: tuple[str, str], chat32: models.LoadedModel
) -> None:
    url, model = serving
    here = generation.generate(
        chat32, QUESTIONS, system="Answer briefly.", max_new_tokens=12, progress=False
    )
    server = hosted.Server(url)
    limits = {"max_new_tokens": 12, "temperature": 0, "progress": False}
    there = hosted.ask(QUESTIONS, model, server, system="Answer briefly.", **limits)
    assert there == [answer.text for answer in here]
    assert len(set(there)) == 3


# --- a server that fails ------------------------------------------------------------------------


def everything(error: BaseException) -> str:
    """All that an error and its chain could show: texts, arguments, and every frame's values."""
    parts = []
    chain = {*causes(error), *filter(None, (e.__context__ for e in causes(error)))}
    for link in chain:
        shown = traceback.TracebackException.from_exception(link, capture_locals=True)
        parts += [str(link), repr(link), repr(link.args), repr(vars(link)), *shown.format()]
    return "\n".join(parts)


@pytest.fixture
def fails(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[..., CourseError]:
    """Run something that must fail, and look for the key in all that is left of it."""
    for name in ("", "openai", "httpx", "httpx2", "httpcore", "httpcore2", "llmcourse"):
        caplog.set_level(logging.DEBUG, logger=name or None)

    def check(kind: type[CourseError], text: str, run: Callable[[], object]) -> CourseError:
        with pytest.raises(kind) as caught:
            run()
        out, err = capfd.readouterr()
        records = "\n".join(f"{r.getMessage()} {r.__dict__}" for r in caplog.records)
        for place in (everything(caught.value), out, err, records):
            assert SECRET not in place
        assert type(caught.value) is kind and text in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__context__ is None
        return caught.value

    return check


LENGTH = {"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "length"}]}
NOWHERE = {"error": {"message": "The model `some-model` does not exist", "code": "model_not_found"}}
FAULTS = {
    "429": (faulty.says(429, {"error": {"message": "slow down"}}), RateLimitError, "slow down"),
    "400": (faulty.says(400, {"detail": "no such field"}), APIError, "no such field"),
    "401": (faulty.for_key("another", GOOD), AuthenticationError, "key provided: …."),
    "no model": (faulty.says(404, NOWHERE), ModelNameError, "has no model 'some-model'"),
    "no route": (faulty.says(404, {"detail": "Not Found"}), APIError, "base_url end in /v1"),
    "time-out": (faulty.hangs, UnavailableResourceError, "no answer within 0.3 s"),
    "hangs up": (faulty.hangs_up, UnavailableResourceError, "can't be reached"),
    "a web page": (faulty.says(200, "<p>Hello</p>", "text/html"), APIError, "no chat completion"),
    "nothing but thoughts": (faulty.says(200, LENGTH), APIError, "max_new_tokens"),
    "a filter": (faulty.answers(None, "content_filter"), APIError, "content_filter"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_and_the_key_is_not(name: str, fails: Callable) -> None:
    behaviour, kind, text = FAULTS[name]
    with faulty.running(behaviour) as proxy:
        error = fails(kind, text, lambda: ask(proxy.url, timeout=0.3 if "time" in name else 30))
    assert proxy.url in str(error) and {r.key for r in proxy.requests} == {SECRET}


def test_nobody_there(fails: Callable) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    fails(UnavailableResourceError, "Does the server run", lambda: ask(url))


def test_too_many_requests_for_ever_and_for_a_while(fails: Callable) -> None:
    busy = faulty.says(429, {"error": {"message": "slow down"}}, Retry_After="0.01")
    with faulty.running(busy) as server:
        fails(RateLimitError, "tried 3 times", lambda: ask(server.url, retries=2))
    assert len(server.requests) == 3
    wait = faulty.says(429, {"error": {"message": "slow down"}}, Retry_After="1")
    with faulty.running(wait, GOOD) as server:
        assert ask(server.url, retries=2) == ["Paris."]
    first, second = server.requests
    assert second.moment - first.moment > 0.9  # the server's wait; the client's own is 0.5


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Evil: 1", f"{SECRET} é", f"{SECRET}\u2026"])
def test_a_key_that_cannot_be_sent(key: str, fails: Callable) -> None:
    server = hosted.Server("http://127.0.0.1:1/v1", key)
    fails(AuthenticationError, "Copy it again", lambda: hosted.ask("Hi", "m", server))


CELLS = (
    "from llmcourse import hosted\n%xmode Verbose",
    "hosted.ask(['Hi', 'Ho'], 'm', hosted.Server.found(), retries=0)",
    "print(hosted.Server.found())\nhosted.ask('Hi', 'm', hosted.Server.found(), retries=0)",
)


def test_a_saved_notebook_does_not_have_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    with faulty.running(faulty.for_key("another", GOOD)) as proxy:
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        monkeypatch.setenv("OPENAI_BASE_URL", proxy.url)
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    saved = nbformat.writes(notebook)
    for cell in notebook.cells[1:]:
        assert cell.outputs[-1].ename == "AuthenticationError"
    assert "key provided: …." in saved and "key hidden" in saved and SECRET not in saved


# --- many prompts -------------------------------------------------------------------------------


def test_answers_come_in_input_order() -> None:
    last_is_done = threading.Event()

    def behave(handler: faulty.Handler) -> None:
        """Answer with the question; the first only after the last."""
        asked = handler.seen.question
        if asked == "0":
            assert last_is_done.wait(30)
        faulty.answers(f"answer {asked}")(handler)
        if asked == "5":
            last_is_done.set()

    with faulty.running(behave) as proxy:
        texts = ask(proxy.url, [str(n) for n in range(6)], at_once=2)
    assert texts == [f"answer {n}" for n in range(6)]


def test_what_is_sent() -> None:
    with faulty.running(GOOD) as proxy:
        ask(proxy.url, system="Be brief.", max_new_tokens=5, temperature=0.5)
        ask(proxy.url)
        hosted.ask("Hi", "m", hosted.Server(proxy.url), progress=False)
    full, bare, _ = proxy.requests
    assert full.body == {
        "model": "some-model",
        "max_completion_tokens": 5,
        "max_tokens": 5,
        "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }
    assert bare.body == {"model": "some-model", "messages": [{"role": "user", "content": "Hi"}]}
    assert [request.key for request in proxy.requests] == [SECRET, SECRET, "none"]


@pytest.mark.parametrize(
    ("url", "both"),
    [
        ("https://api.openai.com/v1", False),
        ("https://us.openai.azure.com/v1", False),
        ("http://my.openai.com.example/v1", True),
    ],
)
def test_openais_own_servers_are_not_given_the_name_that_they_refuse(
    url: str, both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openai: max_tokens is an error for its reasoning models, and all that others may know."""
    sent = []
    monkeypatch.setattr(hosted, "_text", lambda *given: sent.append(given[-1]) or "Hi.")
    assert ask(url, max_new_tokens=5) == ["Hi."]
    assert sent[0]["max_completion_tokens"] == 5 and ("max_tokens" in sent[0]) == both


# --- settings -----------------------------------------------------------------------------------


def test_wrong_addresses_are_refused_without_their_secrets(fails: Callable) -> None:
    for url in ("localhost:8000/v1", "ftp://host/v1"):
        fails(SettingError, "address can't be used", lambda url=url: ask(url))
    for url in (f"https://me:{SECRET}@host/v1", f"https://host/v1?key={SECRET}"):
        with pytest.raises(SettingError, match="address can't be used: https://host/v1") as caught:
            hosted.ask("Hi", "m", hosted.Server(url))
        assert SECRET not in f"{caught.value!r} {hosted.Server(url)!r}"


def test_without_a_server_the_way_to_one_is_told(fails: Callable) -> None:
    fails(AuthenticationError, hosted.HOW, lambda: hosted.ask("Hi", "m", hosted.Server.found()))
    fails(AuthenticationError, hosted.HOW, lambda: hosted.ask("Hi", "m", hosted.Server()))
    with pytest.raises(AuthenticationError) as caught:
        hosted.ask("Hi", "m", SECRET)
    assert SECRET not in repr(caught.value)


def test_the_server_that_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hosted.Server.found
    assert found() is None and found("", " ") is None
    assert found(SECRET) == hosted.Server(None, SECRET)
    assert found(base_url="http://a/v1") == hosted.Server("http://a/v1", None)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://b/v1")
    assert found() == hosted.Server("http://b/v1", None)
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    assert found() == hosted.Server("http://b/v1", SECRET)
    assert found("k", "http://a/v1") == hosted.Server("http://a/v1", "k")
    for text in (repr(found()), str(found()), f"{found()}"):
        assert "http://b/v1" in text and SECRET not in text
