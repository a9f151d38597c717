"""Security policy of the project's HTML pages, which contain all that they show and load nothing else."""

import base64
import hashlib
from collections.abc import Iterable


def policy(styles: Iterable[str] | None = None, scripts: Iterable[str] = (), media: bool = False) -> str:
    """Return a Content-Security-Policy that allows only the styles, scripts and media of the page itself.

    Attributes such as `onerror`, links to scripts and elements that were injected into the page do not run.

    Args:
        styles: The content of the page's `<style>` tags; None allows any styles, including attributes.
        scripts: The content of its `<script>` tags.
        media: Whether the page shows videos and images, which it contains as data URIs.
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
