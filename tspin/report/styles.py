"""How each series of a figure looks: never told by colour alone."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Style", "style_at", "style_of"]


@dataclass(frozen=True)
class Style:
    """Of one line and its points."""

    color: str
    dash: str
    symbol: str


# Mid-tones that keep a contrast of 3 to 1 on white and on near-black, apart for the colour-blind.
_ROLES = {
    "annotated": Style("#3987e5", "solid", "circle"),
    "synthetic": Style("#d97030", "dash", "diamond"),
    "proto_synthetic": Style("#8b8f99", "dot", "square"),
}
_OTHERS = (_ROLES["annotated"], _ROLES["synthetic"], Style("#2f9e78", "dot", "square"))
_COLORS = (
    "#3987e5",
    "#d97030",
    "#2f9e78",
    "#b05fc7",
    "#8b8f99",
    "#c2548a",
    "#9a7d1e",
    "#5b7f95",
)
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star", "triangle-down", "cross")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def style_of(role: str, position: int) -> Style:
    """y, y' and y0 look the same in every figure; other series by their position."""
    return _ROLES.get(role, _OTHERS[position % len(_OTHERS)])


def style_at(position: int) -> Style:
    """One of up to 40 series, no two of which have both dashes and symbol in common."""
    lap, at = divmod(position, len(_COLORS))
    return Style(_COLORS[at], _DASHES[(at + lap) % len(_DASHES)], _SYMBOLS[at])
