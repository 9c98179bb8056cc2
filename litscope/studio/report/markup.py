"""HTML whose texts are escaped because there is no other way to write them: elements, tables, figures, the whole page.

A page of a report is one file: no script, no address of anything else, and a policy that allows neither.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from litscope.console import printable
from litscope.studio.report.style import STYLE

_EMPTY = {"meta", "img", "br", "path", "line", "rect", "circle"}
"""Elements that have no content."""


class Html(str):
    """Markup. Only this module makes it of texts, and escapes them."""


Content = object
"""`Html` as it is, None as nothing, sequences as their items, anything else as text."""


def element(name: str, /, *content: Content, **attributes: object) -> Html:
    """One element.

    Args:
        name: such as `p`.
        content: what is in it.
        attributes: `class_` is called class, `_` stands for `-`; None and False are left out, True has no value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY and not content:
        return Html(f"<{name}{written}{'/' if name not in ('meta', 'img', 'br') else ''}>")
    return Html(f"<{name}{written}>{joined(*content)}</{name}>")


def joined(*content: Content) -> Html:
    """Contents one after the other."""
    return Html("".join(map(_written, content)))


def _written(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Html):
        return content
    if isinstance(content, list | tuple):
        return joined(*content)
    return html.escape(_shown(content))


def _shown(value: object) -> str:
    """A text in which nothing moves what stands around it, or turns its direction."""
    return printable(str(value))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(_shown(value))}"'


def table(
    heads: Sequence[Content], rows: Iterable[Sequence[Content]], caption: str, right: Iterable[int] = (), name: str = ""
) -> Html:
    """A table in a box of its own that scrolls where it is too wide.

    Args:
        heads: of the columns.
        rows: cells; the first of each names its row.
        caption: what it is of, for those who do not see what stands above.
        right: columns of numbers.
        name: a class.
    """
    numbers = set(right)
    head = [element("th", one, scope="col", class_="num" if i in numbers else None) for i, one in enumerate(heads)]
    body = []
    for row in rows:
        cells = [
            element("th" if i == 0 else "td", cell, scope="row" if i == 0 else None,
                    class_="num" if i in numbers else None)
            for i, cell in enumerate(row)
        ]  # fmt: skip
        body.append(element("tr", cells))
    whole = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", head)),
        element("tbody", body),
        class_=name or None,
    )
    return element("div", whole, class_="wide", role="region", tabindex="0", aria_label=caption)


def figure(title: str, summary: Content, picture: Html, *below: Content) -> Html:
    """A plot with its title, what it says in a sentence, and what else belongs to it, such as its numbers."""
    return element("figure", element("h3", title), element("figcaption", summary), picture, below, class_="card")


def folded(summary: str, *content: Content) -> Html:
    """What is there for those who open it."""
    return element("details", element("summary", summary), content)


def picture(content: bytes, media_type: str, alt: str, **attributes: object) -> Html:
    """An image that is part of the page."""
    return element(
        "img", src=f"data:{media_type};base64,{base64.b64encode(content).decode()}", alt=alt, **attributes,
    )  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: of its place, `#name`.
        title: its heading.
        content: what is in it.
    """

    name: str
    title: str
    content: Html


def missing(reason: object) -> Html:
    """What stands where a part of a report is not there."""
    return element("p", "Not in this report: ", reason, class_="missing")


def settings_alone(recipe: str) -> str:
    """A recipe without its comments."""
    return "\n".join(line for line in recipe.split("\n") if line.strip() and not line.lstrip().startswith("#"))


def page(title: str, kind: str, head: Html, sections: Sequence[Section], foot: Content) -> Html:
    """The whole document.

    Args:
        title: of the page.
        kind: what it is about, a word.
        head: what stands below the title.
        sections: the parts.
        foot: the last line.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = [element("li", element("a", one.title, href=f"#{one.name}")) for one in sections]
    parts = [
        element("section", element("h2", one.title, id=f"{one.name}-title"), one.content, id=one.name,
                aria_labelledby=f"{one.name}-title")
        for one in sections
    ]  # fmt: skip
    whole = [
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="referrer", content="no-referrer"),
            element("title", f"{title} · litscope"),
            element("style", Html(STYLE)),
        ),
        element(
            "body",
            element("a", "To the content", href="#content", class_="skip"),
            element("header", element("p", kind, class_="kind"), element("h1", title), head),
            element("nav", element("ul", links), aria_label="Parts of this report"),
            element("main", parts, id="content", tabindex="-1"),
            element("footer", foot),
        ),
    ]
    return Html(f"<!doctype html>\n{element('html', whole, lang='en')}\n")
