"""Globs over dotted names: `*` and `?` stay within one level, `**` crosses levels."""

import re

_TOKEN = re.compile(r"\*\*\.|\*\*|\*|\?|\[!?[^\]]+\]|.", re.DOTALL)
_MEANING = {"**.": r"(?:.*\.)?", "**": ".*", "*": "[^.]*", "?": "[^.]"}


def is_glob(text: str) -> bool:
    """Return whether a name has a wildcard."""
    return "*" in text or "?" in text


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that a whole name has to match.

    `blocks.*` are the blocks, `blocks.**` all inside them too, `**.relu` every module
    called relu; `[ab]` and `[!ab]` are sets of characters.
    """
    return re.compile("".join(map(_translate, _TOKEN.findall(pattern))), re.DOTALL)


def _translate(token: str) -> str:
    if token in _MEANING:
        return _MEANING[token]
    if len(token) > 1:  # a set
        inside = token[1:-1].replace("\\", r"\\").replace("^", r"\^")
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(token)
