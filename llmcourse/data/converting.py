"""Files of other kinds as Markdown: PDF and Word, notebooks, subtitles, e-mail."""

from __future__ import annotations

import email.policy
import json
import mailbox
import re
import tempfile
from collections.abc import Callable
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from llmcourse.data.patterns import readable
from llmcourse.data.readers import any_text
from llmcourse.errors import DataError, first_line
from llmcourse.progress import quiet

# What markitdown (https://github.com/microsoft/markitdown) makes Markdown of.
OFFICE = (".pdf", ".docx", ".pptx", ".xlsx", ".xls", ".epub", ".msg")


def converted(path: Path) -> tuple[str, list[str]]:
    """A file of one of `CONVERTED` as Markdown, and what of it is not in that: some attachments.

    Raises:
        DataError: it can't be; the message has no full stop.
    """
    try:
        done = CONVERTED[path.suffix.lower()](path)
        return (done, []) if isinstance(done, str) else done
    except (DataError, OSError):
        raise
    except Exception as error:  # whatever a damaged file makes a converter raise
        raise DataError(f"it can't be read as {path.suffix} ({first_line(error)})") from error


def _office(path: Path) -> str:
    try:
        from markitdown import MarkItDown
    except ImportError as error:
        raise DataError(
            f"for {path.suffix} the package markitdown is needed: "
            f'pip install "markitdown[docx,pdf,pptx,xls,xlsx]"'
        ) from error
    with quiet():
        text = MarkItDown().convert(str(path)).text_content
    # (what is damaged is taken for a text, and comes back as it is)
    with path.open("rb") as file:
        if text.startswith(file.read(4).decode("latin-1")):
            raise DataError(f"it is damaged, or no {path.suffix} file")
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)  # the numbers of slides


def _notebook(path: Path) -> str:
    """The texts of a notebook, and its code between fences; no outputs."""
    cells = json.loads(any_text(path.read_bytes())[0])["cells"]
    sources = (("".join(cell["source"]), cell["cell_type"]) for cell in cells)
    return "\n\n".join(
        f"```\n{text}\n```" if kind == "code" else text for text, kind in sources if text.strip()
    )


def _subtitles(path: Path) -> str:
    """What is said, without numbers, times and repeated lines."""
    text = any_text(path.read_bytes())[0]
    if path.suffix.lower() == ".vtt":  # its head, comments and styles are blocks
        text = re.sub(r"(?:\A|\n\n)(?:WEBVTT|NOTE|STYLE).*(?:\n.+)*", "\n", text)
    text = re.sub(r"(?m)^(?:\d+[ ]*\n)?[\d:.,]+ *--> .*$", "", text)
    lines = (re.sub(r"<[^>]+>|\{[^}]+\}", "", one).strip() for one in text.split("\n"))
    said = list(filter(None, lines))
    return " ".join(
        line for place, line in enumerate(said) if line not in said[max(0, place - 1) : place]
    )


def _mails(path: Path) -> tuple[str, list[str]]:
    """The messages of a file with what is attached to them; and what of that is not read."""
    reader = BytesParser(EmailMessage, policy=email.policy.default)
    if path.suffix.lower() == ".mbox":  # as Thunderbird and Gmail's export have it
        read: Any = reader.parse  # (typed as making messages of the module's own)
        messages: list[Any] = list(mailbox.mbox(path, read, create=False))
    else:
        with path.open("rb") as file:
            messages = [reader.parse(file)]
    texts, unread = [], []
    for number, message in enumerate(messages, 1):
        try:
            texts.append(_message(message, path.stem))
            parts = list(message.iter_attachments())
        except Exception as error:  # one message's unknown charset or broken header stops no other
            unread.append(f"message {number} is not read: {first_line(error)}")
            continue
        for part in parts:
            name = part.get_filename() or part.get_content_type()
            try:
                texts.append(f"# {name}\n\n{_attached(part, Path(name).suffix.lower())}")
            except (DataError, OSError) as error:
                unread.append(f"the attachment {name!r} is not read: {error}")
    return "\n\n".join(texts), unread


def _message(message: Any, name: str) -> str:
    """Subject, sender, day and text of a message."""
    body = message.get_body(preferencelist=("plain", "html"))
    text = body.get_content() if body else ""
    text = readable(text, "\n\n") if body and body.get_content_subtype() == "html" else text
    head = [f"{name}: {message[name]}" for name in ("From", "Date") if message[name]]
    return f"# {message['Subject'] or name}\n\n{'  '.join(head)}\n\n{text}"


def _attached(part: Any, kind: str) -> str:
    """The text of an attachment.

    Raises:
        DataError: it has none that can be read.
    """
    if part.get_content_type() == "message/rfc822":
        return _message(part.get_content(), "")
    content = part.get_payload(decode=True) or b""
    if kind in CONVERTED:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"attachment{kind}")
            copy.write_bytes(content)
            return converted(copy)[0]
    if part.get_content_maintype() != "text":
        raise DataError(f"it is of the kind {kind or part.get_content_type()!r}")
    text = any_text(content)[0]
    return readable(text, "\n\n") if part.get_content_subtype() == "html" else text


CONVERTED: dict[str, Callable[[Path], str | tuple[str, list[str]]]] = {
    **dict.fromkeys(OFFICE, _office),
    ".ipynb": _notebook,
    **dict.fromkeys((".srt", ".vtt"), _subtitles),
    **dict.fromkeys((".eml", ".mbox"), _mails),
}
