"""Text that is safe in an HTML page, and the frame of a page that loads nothing."""

import html
import json
import unicodedata
from importlib import resources
from typing import Any

GENERATOR = '<meta name="generator" content="charjax">'

_MAY_ACT = {"\n", "\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH JOINER}"}


def text(value: object) -> str:
    r"""Returns a value as HTML text, with nothing in it read as markup.

    >>> text("</b> & \x07")
    '&lt;/b&gt; &amp; ␇'
    """
    return html.escape(visible_text(value))


def visible_text(value: object) -> str:
    """Returns a value as text of which every character is visible."""
    return "".join(map(visible, str(value)))


def visible(character: str) -> str:
    r"""Returns a character, or a visible sign for one that is not.

    Control characters, and those that change the direction of the text around them,
    must not act on the page; newlines and joiners may.

    >>> visible("a"), visible("\t"), visible("\u202e")
    ('a', '␉', '[U+202E]')
    """
    if character in _MAY_ACT or len(character) > 1:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
        return f"[U+{code:04X}]"
    return character


def embedded_json(value: object) -> str:
    r"""Returns JSON without characters that could end the script element it is in.

    >>> embedded_json(["</script>"])
    '["\\u003c/script\\u003e"]'
    """
    escaped = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    for character in "<>&\u2028\u2029":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    return escaped


def page(title: str, body: str, data: dict[str, Any]) -> str:
    """Returns a whole HTML page.

    Args:
      title: the page's title, not escaped yet.
      body: its sections, as HTML.
      data: what `page.js` draws.
    """
    files = resources.files("charjax.report")
    style = (files / "page.css").read_text("utf-8")
    script = (files / "page.js").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{GENERATOR}
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>{body}</main>
<noscript><p class="note">The charts need JavaScript.</p></noscript>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">{embedded_json(data)}</script>
<script>
{script}</script>
</body>
</html>
"""
