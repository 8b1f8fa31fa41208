"""Asking a model behind a server that speaks OpenAI's chat completions.

Such a server is a paid service, a company's own, or one on this machine: `transformers serve`,
vLLM, llama.cpp and Ollama all speak it. The official `openai` client does the talking; it is
optional: `pip install "llmcourse[hosted]"`.

Whatever goes wrong comes out as one of the errors of `llmcourse.errors`. They never carry the
key: the client's own errors hold the request with its headers, so ours are raised after those
are gone, not from them, and a key that a server repeats is blotted out.

The longest answer is sent as `max_completion_tokens`: OpenAI has deprecated `max_tokens`, and its
reasoning models refuse it. Other servers get both names, since some, older versions of
`transformers serve` among them, pass over the newer one and write as much as they like.
"""

from __future__ import annotations

from llmcourse.hosted.asking import ask, stream
from llmcourse.hosted.server import HOW, Server

__all__ = ["HOW", "Server", "ask", "stream"]
