"""How often what infrastructure ends is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from swe_srl.errors import NodeLostError


@dataclass(slots=True)
class Tries:
    """`most` tries in all, and one beside them for who lost a node: that it went says nothing of the work."""

    most: int
    made: int = 0
    moved: bool = False

    def begin(self) -> None:
        self.made += 1

    def again(self, error: Exception | None) -> bool:
        """Whether there is another try after this error."""
        if isinstance(error, NodeLostError) and not self.moved:
            self.moved, self.most = True, self.most + 1
        return self.made < self.most
