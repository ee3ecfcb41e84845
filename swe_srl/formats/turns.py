"""Messages in order → turns: calls paired with their answers, and what executed nothing counted."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

from swe_srl.types import Action, Turn

REJECTED = "turn rejected by the environment"
UNREADABLE = "call that cannot be read"
UNANSWERED = "call without an observation"


def answers_by_id(events: Sequence[tuple[bool, str | None]]) -> dict[int, int]:
    """A call's position → its answer's: the next one after it with its id, because some models number anew.

    Of each event: whether it is an answer, and the id of its call; None for what is neither.
    """
    answers: dict[int, int] = {}
    ahead: dict[str, int] = {}
    for position in range(len(events) - 1, -1, -1):
        is_answer, id = events[position]
        if id is None:
            continue
        if is_answer:
            ahead[id] = position
        elif id in ahead:
            answers[position] = ahead.pop(id)
    return answers


class _Open:
    """A turn that may still get its observation."""

    __slots__ = ("action", "call_id", "observation", "refused", "thought")

    def __init__(self, thought: str, action: Action | None, call_id: str | None) -> None:
        self.thought = thought
        self.action = action
        self.call_id = call_id
        self.observation: str | None = None
        self.refused = False


def _oldest(waiting: deque[_Open]) -> _Open | None:
    while waiting and waiting[0].observation is not None:
        waiting.popleft()
    return waiting[0] if waiting else None


class Turns:
    """Collects a log's turns. Feed it the messages in order, then `close` it.

    `unique_ids`: no two calls of the log have the same id, so an answer may come after later calls. Else ids are
    looked for in the latest answer of the model only: some models number their calls anew in each.
    """

    def __init__(self, unique_ids: bool = False) -> None:
        self._unique_ids = unique_ids
        self._turns: list[_Open] = []
        self._latest: list[_Open] = []  # of the model's latest answer
        # Calls that may still be answered, all and by id, the oldest first; those answered leave when they are met.
        self._waiting: deque[_Open] = deque()
        self._waiting_by_id: defaultdict[str | None, deque[_Open]] = defaultdict(deque)
        self._dropped: Counter[str] = Counter()

    def act(self, thought: str, calls: Iterable[tuple[str | None, Action]]) -> None:
        """An answer of the model with its calls as (id, action); the thought goes with the first."""
        answer: list[_Open] = []
        said = thought.strip()
        for id, action in calls:
            answer.append(_Open(said, action, id))
            said = ""
        self._hear(answer)

    def talk(self, thought: str) -> None:
        """An answer of the model without a call."""
        self._hear([_Open(thought.strip(), None, None)])

    def drop(self, reason: str) -> None:
        """An answer that executed nothing: it is counted, and so is not what the environment said to it."""
        self._hear([])
        self._dropped[reason] += 1

    def _hear(self, answer: list[_Open]) -> None:
        self._turns += answer
        self._latest = answer
        if not self._unique_ids:
            self._waiting.clear()
            self._waiting_by_id.clear()
        for turn in answer:
            if turn.action is not None:
                self._waiting.append(turn)
                self._waiting_by_id[turn.call_id].append(turn)

    def observe(self, text: str, call_id: str | None = None) -> bool:
        """The environment's answer to the call with this id, else to the oldest that waits.

        False if no call waits for it.
        """
        asked = self._asked(call_id)
        if asked is not None:
            asked.observation = text
        return asked is not None

    def refuse(self, text: str, call_id: str | None = None) -> None:
        """The environment's answer, as to `observe`, where it says that it did not run the call: that is no turn.

        Of a submit it may say so, too: nothing is left to be run.
        """
        asked = self._asked(call_id)
        if asked is not None and asked.action != Action("submit"):
            asked.observation, asked.refused = text, True

    def _asked(self, call_id: str | None) -> _Open | None:
        if call_id is None:
            return _oldest(self._waiting)
        return _oldest(self._waiting_by_id[call_id]) or _oldest(self._waiting_by_id[None])

    def remark(self, text: str) -> None:
        """What a user said unasked: it stands after the latest turn's observation, and is no call's answer."""
        for turn in self._latest[-1:]:
            if turn.action is not None and turn.observation is None:
                continue
            turn.observation = text if turn.observation is None else f"{turn.observation}\n\n{text}"

    def close(self) -> tuple[tuple[Turn, ...], dict[str, int]]:
        """(turns, what was dropped by reason). A call without an answer is kept only if it is a last submit."""
        kept: list[Turn] = []
        ran = [turn for turn in self._turns if not turn.refused]
        if refused := len(self._turns) - len(ran):
            self._dropped[REJECTED] += refused
        last = ran[-1] if ran else None
        for turn in ran:
            if turn.observation is None and turn.action and not (turn is last and turn.action.tool == "submit"):
                self._dropped[UNANSWERED] += 1
            else:
                kept.append(Turn(turn.thought, turn.action, turn.observation))
        return tuple(kept), dict(self._dropped)
