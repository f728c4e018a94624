"""What the matter is with a clip, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "mend", "note"]
"""``fatal``: no setting mends it; ``mend``: its remedy does; ``note``: to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is the matter: a ``name`` for programs, a sentence, and what to do ("" where nothing can be done)."""

    name: str
    severity: Severity
    text: str
    remedy: str = ""
