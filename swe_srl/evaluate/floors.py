"""Policies that know nothing: what every similarity is read against.

Each is a function Step → Action. On 2,311 held-out steps of a real corpus `cat` of the file that was named
last reaches 0.53, and the best constant 0.36: a model at 0.5 has learnt nothing. A floor's answers go through
the reward as a policy's do.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping

from swe_srl.actions import canonical, is_target, render_completion
from swe_srl.errors import DataError
from swe_srl.evaluate.metrics import Answer, answer
from swe_srl.rewards import Attempt, similarity, similarity_reward
from swe_srl.steps import StepSet
from swe_srl.tools import BASH, EDITOR
from swe_srl.types import Action, Step

Floor = Callable[[Step], Action]

CANDIDATES = 64  # most frequent training actions among which the best constant is sought
JUDGES = 500  # training steps on which they are compared

BEST_CONSTANT = "best constant"
REPEAT_PREVIOUS = "repeat previous"

# Where no file was named yet, or nothing was done, a trajectory is at its beginning: an agent looks around.
LOOK_AROUND = Action(BASH.name, {"command": "ls -la"})

# Fixed commands on F, the file that was named last.
TEMPLATES: Mapping[str, Callable[[str], Action]] = {
    "cat F": lambda file: _bash(f"cat {file}"),
    'grep -n "def" F': lambda file: _bash(f'grep -n "def" {file}'),
    "nl -ba F | sed": lambda file: _bash(f"nl -ba {file} | sed -n '1,100p'"),
    "view F": lambda file: Action(EDITOR.name, {"command": "view", "path": file}),
}


def policies(train: StepSet, seed: int) -> dict[str, Floor]:
    """The floors by name. Only the best constant looks at data, and at training steps alone.

    Raises DataError if there is no training step.
    """
    constant = best_constant(train, seed)
    return {
        BEST_CONSTANT: lambda step: constant,
        REPEAT_PREVIOUS: _repeat_previous,
        **{name: _on_last_file(template) for name, template in TEMPLATES.items()},
    }


def floors(train: StepSet, held_out: StepSet, seed: int) -> dict[str, list[Answer]]:
    """Every floor's answers to the held-out steps, by name, for `metrics.summarise`. Raises DataError."""
    return {name: [_answer(step, floor(step)) for step in held_out] for name, floor in policies(train, seed).items()}


def best_constant(train: StepSet, seed: int) -> Action:
    """Of the most frequent training actions the one most similar to a sample of training steps.

    Frequent is not enough: where every command names its own file the most frequent is only `submit`. Ties
    in frequency are broken by the seed, so that candidates do not all come from the first log.
    """
    if not len(train):
        raise DataError("the floors need training steps to choose the best constant command from: there are none")
    actions = {canonical(step.action): step.action for step in train}
    counts = Counter(canonical(step.action) for step in train)
    names = sorted(counts)
    random.Random(seed).shuffle(names)
    candidates = sorted(names, key=lambda name: -counts[name])[:CANDIDATES]
    judges = [canonical(step.action) for step in train.choose(JUDGES, seed)]
    best = max(candidates, key=lambda name: sum(similarity(name, judge) for judge in judges))
    return actions[best]


def last_file(step: Step) -> str | None:
    """The file that the latest command to name one names; None if no earlier command of the step does."""
    for turn in reversed(step.history):
        assert turn.action is not None
        if file := named_file(turn.action):
            return file
    return None


# The body of a here-document and what is quoted hold code and patterns, not the files that are worked on.
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n.*?(?:^[ \t]*\2[ \t\r]*$|\Z)", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
_FILE = re.compile(r"(?<![\w./*$@=-])(?:/|\./|\.\./)?\w[\w./-]*\.[A-Za-z]\w{0,5}(?![\w./*-])")


def named_file(action: Action) -> str | None:
    """The last file that an action names: a path with an extension, or None. A file's text is not searched."""
    if action.tool == EDITOR.name:
        found = _FILE.fullmatch(action.arguments.get("path", "").strip())
        return found[0] if found else None
    if action.tool != BASH.name:
        return None
    command = without_heredocs(action.arguments.get("command", ""))
    files: list[str] = _FILE.findall(_QUOTED.sub(" ", command))
    return files[-1] if files else None


def without_heredocs(command: str) -> str:
    """A bash command less the text of its here-documents."""
    return _HEREDOC.sub(r" \3\n", command)


def _bash(command: str) -> Action:
    return Action(BASH.name, {"command": command})


def _repeat_previous(step: Step) -> Action:
    """The action before this one, if a policy with our tools could write it."""
    action = step.history[-1].action if step.history else None
    return action if action is not None and is_target(action) else LOOK_AROUND


def _on_last_file(template: Callable[[str], Action]) -> Floor:
    def floor(step: Step) -> Action:
        file = last_file(step)
        return template(file) if file else LOOK_AROUND

    return floor


def _answer(step: Step, action: Action) -> Answer:
    text = render_completion("", action)
    return answer(step, "greedy", text, similarity_reward(Attempt(text, False, step.action)))
