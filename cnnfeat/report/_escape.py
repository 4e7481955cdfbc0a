"""Text of others in a page."""

from html import escape as escape_marks

from cnnfeat.shown import visible_text


def escape(text: str) -> str:
    """Return text for a page: no mark of it is markup, no character is obeyed."""
    return escape_marks(visible_text(text))
