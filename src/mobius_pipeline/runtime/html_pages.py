"""What the project's HTML pages share: they hold all that they show, and let nothing else run or load."""

import base64
import hashlib
from collections.abc import Iterable


def policy(styles: Iterable[str] | None = None, scripts: Iterable[str] = (), media: bool = False) -> str:
    """Return a Content-Security-Policy under which a page shows and runs what it was written with, alone.

    An attribute such as `onerror`, a link to a script, an element that was smuggled into the page: none runs.

    Args:
        styles: The content of the page's `<style>` tags; None allows any, style attributes among them.
        scripts: The content of its `<script>` tags.
        media: Whether the page shows videos and pictures, which it holds as data URIs.
    """
    sources = {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'" if styles is None else _hashes(styles),
        "script-src": _hashes(scripts) or "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    if media:
        sources |= {"media-src": "data:", "img-src": "data:"}
    return "; ".join(f"{name} {allowed}" for name, allowed in sources.items())


def _hashes(texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
