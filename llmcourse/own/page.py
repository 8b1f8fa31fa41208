"""The pieces of a page: everything escaped, no scripts, nothing from the network."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.plots import base as look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body{margin:0;font:1rem/1.55 system-ui,sans-serif;color:#222;background:#fff}
main,header,nav{max-width:62rem;margin:0 auto;padding:0 1rem}
h1{margin:1.5rem 0 .25rem}h2{margin-top:2.25rem;border-bottom:2px solid #0072B2}
a{color:#005a8f}a:focus,summary:focus,.scroll:focus{outline:3px solid #D55E00;outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:#fff;padding:.5rem}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;list-style:none}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0}
caption{text-align:left;font-style:italic;padding:.25rem 0}
th,td{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top;
white-space:pre-wrap;overflow-wrap:anywhere;min-width:5rem}th{background:#F3F5F7}
figure{margin:1rem 0}img{max-width:100%;height:auto}figcaption{font-style:italic}
@media print{nav,.skip{display:none}h2{break-after:avoid}}
"""
# Whatever a text in the page says, a browser runs nothing and fetches nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def escaped(text: Any) -> str:
    """`text` in which markup stays text, and control characters are seen."""
    seen = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "�", str(text))
    return html.escape(seen, quote=True)


def paragraph(text: Any) -> str:
    """A paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def bullets(lines: Iterable[Any]) -> str:
    """A list; nothing where there are no lines."""
    items = "".join(f"<li>{escaped(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str) -> str:
    """A table whose rows begin with their heading; it scrolls by itself, by keyboard too."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escaped(first)}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}"><table>'
        f"<caption>{escaped(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, inside: str) -> str:
    """A part that opens on Enter or a click. `inside` is HTML."""
    return f"<details><summary>{escaped(summary)}</summary>{inside}</details>"


def picture(figure: Figure, alt: str, caption: str) -> str:
    """A figure inside the page, with its alternative text."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(look.STYLE):
        figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escaped(alt)}">'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


def losses(history: Sequence[Mapping[str, float]], held_out: Sequence[Mapping[str, float]]) -> str:
    """The loss after each update, and that on pairs kept out of training, as a picture."""
    import matplotlib

    with matplotlib.rc_context(look.STYLE):
        figure, axes = look.new_figure(7.2, 3.2)
        axes.plot([row["step"] for row in history], [row["loss"] for row in history], "-",
                  color=look.BLUE, linewidth=1.5, label="training pairs")  # fmt: skip
        if held_out:
            axes.plot([row["step"] for row in held_out], [row["loss"] for row in held_out], "--o",
                      color=look.ORANGE, linewidth=2, label="pairs kept out")  # fmt: skip
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("update")
        axes.set_ylabel("loss, nats a token")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    said = [_told("training pairs", history), _told("pairs kept out", held_out)]
    return picture(figure, f"Line chart. Loss: {'; '.join(filter(None, said))}.",
                   "Loss of the answers' tokens. Training may go down to nearly nothing; the test "
                   "pairs' loss says whether that helps.")  # fmt: skip


def _told(name: str, rows: Sequence[Mapping[str, float]]) -> str:
    if not rows:
        return ""
    first, last = rows[0], rows[-1]
    return (
        f"{name}: {first['loss']:.2f} at update {first['step']:g}, {last['loss']:.2f} at update "
        f"{last['step']:g}"
    )


def bars(scores: Mapping[str, Mapping[str, float]], label: str, caption: str) -> str:
    """A mean a way as a bar with its interval, as a picture."""
    import matplotlib

    with matplotlib.rc_context(look.STYLE):
        figure, axes = look.new_figure(7.2, 0.9 + 0.5 * len(scores))
        for place, score in enumerate(scores.values()):
            axes.barh(place, score["mean"], color=look.BLUE, height=0.6)
            axes.plot([score["low"], score["high"]], [place, place], color=look.INK, linewidth=1.5)
            axes.text(score["high"], place, f" {score['mean']:.3g}", va="center")
        axes.set_yticks(range(len(scores)), [look.drawn(name) for name in scores])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.margins(x=0.1)
        axes.set_xlabel(label)
    said = "; ".join(
        f"{name}: {score['mean']:.3g}, 95 % interval {score['low']:.3g} to {score['high']:.3g}"
        for name, score in scores.items()
    )
    return picture(figure, f"Bar chart. {label}. {said}.", caption)


def page(title: str, lead: str, sections: Mapping[str, str]) -> str:
    """A whole page: a title, a sentence, and sections (heading -> HTML) with links to them."""
    names = {heading: re.sub(r"\W+", "-", heading.lower()).strip("-") for heading in sections}
    links = "".join(f'<li><a href="#{n}">{escaped(h)}</a></li>' for h, n in names.items())
    body = "".join(
        f'<section aria-labelledby="{names[h]}"><h2 id="{names[h]}">{escaped(h)}</h2>{inside}'
        f"</section>" for h, inside in sections.items()
    )  # fmt: skip
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head><body>"
        f'<a class="skip" href="#content">Go to the content</a>'
        f"<header><h1>{escaped(title)}</h1><p>{escaped(lead)}</p></header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
        f'<main id="content">{body}</main></body></html>\n'
    )
