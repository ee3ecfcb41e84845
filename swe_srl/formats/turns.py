"""Messages in order → turns: calls paired with their answers, and what executed nothing counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from swe_srl.types import Action, Turn

REJECTED = "turn rejected by the environment"
UNREADABLE = "call that cannot be read"
UNANSWERED = "call without an observation"


class _Open:
    """A turn that may still get its observation."""

    __slots__ = ("action", "call_id", "observation", "thought")

    def __init__(self, thought: str, action: Action | None, call_id: str | None) -> None:
        self.thought = thought
        self.action = action
        self.call_id = call_id
        self.observation: str | None = None


class Turns:
    """Collects a log's turns. Feed it the messages in order, then `close` it.

    `unique_ids`: no two calls of the log have the same id, so an answer may come after later calls. Else ids are
    looked for in the latest answer of the model only: some models number their calls anew in each.
    """

    def __init__(self, unique_ids: bool = False) -> None:
        self._unique_ids = unique_ids
        self._turns: list[_Open] = []
        self._latest: list[_Open] = []  # of the model's latest answer
        self._waiting: list[_Open] = []  # calls that may still be answered
        self._dropped: Counter[str] = Counter()

    def act(self, thought: str, calls: Iterable[tuple[str | None, Action]]) -> None:
        """An answer of the model with its calls as (id, action); the thought goes with the first."""
        self._next([_Open("" if i else thought.strip(), action, id) for i, (id, action) in enumerate(calls)])

    def talk(self, thought: str) -> None:
        """An answer of the model without a call."""
        self._next([_Open(thought.strip(), None, None)])

    def drop(self, reason: str) -> None:
        """An answer that executed nothing: it is counted, and so is not what the environment said to it."""
        self._next([])
        self._dropped[reason] += 1

    def _next(self, answer: list[_Open]) -> None:
        self._turns += answer
        self._latest = answer
        calls = [turn for turn in answer if turn.action]
        self._waiting = self._waiting + calls if self._unique_ids else calls

    def observe(self, text: str, call_id: str | None = None) -> bool:
        """The environment's answer to the call with this id, else to the oldest that waits.

        False if no call waits for it.
        """
        named = [turn for turn in self._waiting if call_id is not None and turn.call_id == call_id]
        unnamed = [turn for turn in self._waiting if call_id is None or turn.call_id is None]
        for turn in [*named, *unnamed][:1]:
            turn.observation = text
            self._waiting.remove(turn)
            return True
        return False

    def remark(self, text: str) -> None:
        """What a user said unasked: it stands after the latest turn's observation."""
        for turn in self._latest[-1:]:
            turn.observation = text if turn.observation is None else f"{turn.observation}\n\n{text}"

    def close(self) -> tuple[tuple[Turn, ...], dict[str, int]]:
        """(turns, what was dropped by reason). A call without an answer is kept only if it is a last submit."""
        kept: list[Turn] = []
        for turn in self._turns:
            last_submit = turn is self._turns[-1] and turn.action is not None and turn.action.tool == "submit"
            if turn.action is not None and turn.observation is None and not last_submit:
                self._dropped[UNANSWERED] += 1
            else:
                kept.append(Turn(turn.thought, turn.action, turn.observation))
        return tuple(kept), dict(self._dropped)
