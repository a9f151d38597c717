"""Render the pages of Data Docs as plain HTML with all values escaped.

Great Expectations' default pages contain values of the table without escaping, so a file name can be a
script. They also load styles and scripts from the internet. These pages contain no script and load nothing.
"""

import html
from collections.abc import Iterator
from string import Template
from typing import Any, NamedTuple

from mobius_pipeline.runtime.html_pages import policy

_MARKS = {"✅": "pass", "❌": "fail", "❗": "not checked"}  # Great Expectations' icons in words
_BACK = {"ValidationResultsPageRenderer": "../../../../", "ExpectationSuitePageRenderer": "../"}
_PRE = "<pre>", "</pre>"  # around `formatted_json`, which Great Expectations escapes


class Piece(NamedTuple):
    """A part of a sentence: text of Great Expectations, or a value in it, optionally with a link."""

    text: str
    is_value: bool = False
    link: str = ""


class PageView:
    """A view for Great Expectations: converts a rendered document to HTML."""

    def __init__(self, **_: Any) -> None:
        """Ignore the folders of custom styles and views that Great Expectations passes."""
        from jinja2 import Environment, PackageLoader

        self._pages = Environment(
            loader=PackageLoader("mobius_pipeline.validation"),
            autoescape=True,  # file names, captions and reasons are untrusted text
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.filters |= {"pieces": pieces, "mark": mark, "failing": failing}

    def render(self, document: Any, **_: Any) -> str:
        """Return the page of a `RenderedDocumentContent`."""
        content = document.to_json_dict()
        style = self._pages.get_template("data_docs.css").render()
        page = self._pages.get_template("data_docs.html")
        back = _BACK.get(content["renderer_type"], "")
        return page.render(content, style=style, policy=policy(styles=[style]), back=back)


def pieces(sentence: dict[str, Any]) -> list[list[Piece]]:
    """Split a `string_template` into lines of pieces; lines that are empty or lack a value are left out."""
    values = sentence.get("params") or {}
    styling = (sentence.get("styling") or {}).get("params") or {}
    lines = [list(_pieces(line, values, styling)) for line in sentence["template"].split("\n")]
    missing = Piece("None", is_value=True)
    return [line for line in lines if any(piece.text for piece in line) and missing not in line]


def _pieces(line: str, values: dict[str, Any], styling: dict[str, Any]) -> Iterator[Piece]:
    end = 0
    for found in Template.pattern.finditer(line):
        yield Piece(line[end : found.start()])
        end = found.end()
        name = found["named"] or found["braced"]
        if name in values:
            yield _value(name, values[name], styling.get(name, {}))
        else:
            yield Piece("$" if found["escaped"] else found[0])
    yield Piece(line[end:])


def _value(name: str, value: Any, styling: dict[str, Any]) -> Piece:
    if name == "html_success_icon":  # a word next to it says the same
        return Piece("")
    if name == "formatted_json":
        value = html.unescape(value.removeprefix(_PRE[0]).removesuffix(_PRE[1]))
    link = styling.get("attributes", {}).get("href", "") if styling.get("tag") == "a" else ""
    return Piece(str(value), is_value=True, link=link)


def mark(sentence: dict[str, Any]) -> str:
    """Return the word for the icon in a `string_template`, or "" if it is not an icon."""
    return _MARKS.get((sentence.get("params") or {}).get("markdown_status_icon", ""), "")


def failing(section: dict[str, Any]) -> bool:
    """Return whether a section contains an expectation that failed or could not be checked."""
    cells = [cell for block in section["content_blocks"] for row in block.get("table", []) for cell in row]
    marks = [mark(cell.get("string_template") or {}) for cell in cells if isinstance(cell, dict)]
    return any(found and found != "pass" for found in marks)
