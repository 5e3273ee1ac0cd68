"""The page as one file: its script, its style and its data inside, and nothing that it could ask for elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["MODULES", "page"]

# In the order in which they are put together: each imports only from those before it.
MODULES = (
    "dom",
    "numbers",
    "data",
    "state",
    "search",
    "ways",
    "scene",
    "camera",
    "svg",
    "canvas",
    "graph",
    "minimap",
    "details",
    "source",
    "outline",
    "findings",
    "passes",
    "play",
    "compare",
    "live",
    "keys",
    "parts",
    "main",
)
IMPORT = re.compile(r'^import\s[^"]*"\./[\w-]+\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class|let)\b)", re.MULTILINE)


def page(data: dict[str, Any], *, connect: bool = False) -> str:
    """Return the page with this data in it; ``connect`` lets it ask the server that it came from."""
    style, script = _asset("style.css"), _script()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        f"base-uri 'none'; form-action 'none'{'; connect-src ' + chr(39) + 'self' + chr(39) if connect else ''}"
    )
    parts = {
        "POLICY": escape(policy),
        "TITLE": escape(str(data.get("title", "gradtrace"))),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": _packed(data),
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], _asset("index.html"))


@cache
def _asset(name: str) -> str:
    return (files("gradtrace.viewer") / "assets" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """Return the modules as one script: without their imports from each other, in one scope."""
    texts = [EXPORT.sub("", IMPORT.sub("", _asset(f"{name}.js"))) for name in MODULES]
    return "\n".join(['"use strict";', *texts])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packed(data: Any) -> str:
    """Return data as text that no markup can stand in: JSON, compressed, in the letters of base64."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(squeezed.compress(text.encode("utf-8", "replace")) + squeezed.flush()).decode()
