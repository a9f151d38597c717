"""Texts that a page must show but not execute, and a browser page that detects if it did."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ELSEWHERE = "http://elsewhere.example"
TEXTS = (
    '"><script>alert(1)</script>.mp4',
    "<img src=x onerror=alert(3)>.gif",
    "'-alert(4)-'.webm",
    "javascript:alert(5)",
    "</title></style></textarea><svg onload=alert(6)>",
    f"<link rel=stylesheet href={ELSEWHERE}/a.css><img src={ELSEWHERE}/a.png>",
    '<iframe srcdoc="<script>parent.alert(7)</script>"></iframe>',
    f"[a](javascript:alert(8)) ![b]({ELSEWHERE}/b.png) | `c`",
    "&lt;script&gt;alert(9)&lt;/script&gt; {{ 7 * 7 }} $path ${path}",
)


@contextmanager
def watched(browser: Any, *own: str, **settings: Any) -> Iterator[Any]:
    """A browser page that fails if a script of a text runs, or anything but `own` is requested."""
    page = browser.new_context(**settings).new_page()
    obeyed: list[str] = []
    asked: list[Any] = []
    page.on("dialog", lambda dialog: (obeyed.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: obeyed.append(f"error {error}"))
    page.on("request", lambda request: asked.append(request))
    yield page
    page.wait_for_timeout(300)  # event handlers and frames act a moment later
    page.context.close()
    sent = [request.url for request in asked if request.failure != "csp"]  # not blocked by the policy
    assert obeyed == []
    assert [url for url in sent if not url.startswith((*own, "data:", "blob:", "about:"))] == []
