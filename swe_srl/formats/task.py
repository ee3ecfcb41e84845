"""What a log tells of its task: the issue inside a prompt, the repository inside an instance id, the patch."""

from __future__ import annotations

import re

from swe_srl.formats.document import optional_text
from swe_srl.types import TaskLink

# How the known agents wrap the issue in their first prompt: what comes before it, and what after. The first pair
# that is found counts; a prompt with none of them is the issue itself.
_ISSUES = tuple(
    (re.compile(before), after)
    for before, after in (
        # mini-swe-agent, SWE-smith, OpenHands. The first tag that stands on a line of its own opens it: the
        # instructions after it mention the tag again.
        (r"<pr_description>\n(?:Consider the following PR description:\n)?", "\n</pr_description>"),
        (r"<issue_description>\n", "\n</issue_description>"),  # OpenHands since 2025
        (r"\nISSUE:\n", "\nINSTRUCTIONS:\n"),  # SWE-agent
        (r"^Please solve this issue: ", "\n\nYou can execute bash commands"),  # mini-swe-agent, local runs
        (r"CTF challenge\. ", "\nINSTRUCTIONS:\n"),  # SWE-agent on capture the flag
    )
)

_INSTANCE = re.compile(
    r"(?P<owner>[A-Za-z0-9-]+)__(?P<name>.+?)"
    r"(?:\.[0-9a-f]{8}\..+"  # SWE-smith: owner__name.commit.bug
    r"|-i?\d+)"  # SWE-bench: owner__name-number; SWE-agent on a GitHub issue: owner__name-iNumber
)
_RUN_NUMBER = re.compile(r"(.+__.+-\d+)_\d+")


def issue_in(prompt: str) -> str:
    """The issue's text without the instructions around it."""
    for before, after in _ISSUES:
        if (begin := before.search(prompt)) and (end := prompt.find(after, begin.end())) >= 0:
            return prompt[begin.end() : end].strip()
    return prompt.strip()


def wrap_issue(issue: str) -> str:
    """A prompt from which `issue_in` takes the issue again, if the issue has no such wrapping itself."""
    return f"<pr_description>\n{issue}\n</pr_description>"


def repository_of(instance_id: str | None) -> str | None:
    """django__django-11099 → "django/django"; None for an id of another shape."""
    found = _INSTANCE.fullmatch(instance_id or "")
    return f"{found['owner']}/{found['name']}" if found else None


def link(instance_id: object, base_commit: object = None, image: object = None) -> TaskLink:
    """The task link of an instance id; what is not usable text is None.

    Agent Data Protocol appends a run's number to an instance's id ("getmoto__moto-6387_0"): it is cut off,
    because evaluation compares ids with those of the benchmark.
    """
    task_id = optional_text(instance_id)
    if task_id and (numbered := _RUN_NUMBER.fullmatch(task_id)):
        task_id = numbered[1]
    return TaskLink(task_id, repository_of(task_id), optional_text(base_commit), optional_text(image))


def patch_in(value: object) -> str | None:
    """A final diff as text that applies, or None: what was submitted may be no diff, but a flag.

    Diffs that were read off a terminal begin with an empty line and may have its line ends throughout.
    """
    patch = optional_text(value)
    if patch is None:
        return None
    patch = patch.lstrip("\r\n")
    if not patch.startswith(("diff ", "--- ")):
        return None
    first = patch.split("\n", 1)[0]
    return patch.replace("\r\n", "\n") if first.endswith("\r") else patch
