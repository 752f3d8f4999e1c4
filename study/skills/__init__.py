"""The skills of the study by name. Each base learns all of them; annotated data teach one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from study.skills.arithmetic import Arithmetic
from study.skills.extraction import Extraction
from study.skills.skill import Item, Skill, Split, split_of
from study.skills.sums import Sums

__all__ = ["SKILLS", "Item", "Skill", "Split", "split_of"]

SKILLS: Mapping[str, Skill] = MappingProxyType(
    {"arithmetic": Arithmetic(), "extraction": Extraction(), "sums": Sums()}
)
