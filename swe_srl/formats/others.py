"""Files that lie among logs and are no log that can be read: each is recognised, so that the report says what it is."""

from __future__ import annotations

from typing import Any

PREDICTIONS = "predictions only, no actions"
TASK = "a SWE-bench task, no run of it"
VERDICTS = "a SWE-bench report: verdicts, no actions"
REQUESTS = "log of requests to a model, not of a run"
MOATLESS = "Moatless search tree: its tools have no equivalent here"
TRAE = "Trae log: not read, the only one seen holds no call"
AGENTTUNING = "AgentTuning chat: an operating-system quiz, no software issue"
STATE = "state of an OpenHands conversation: its events are beside it"


def recognise(document: object) -> str | None:
    """What a document that is of no format is, as a reason why nothing was read; None if that is not known."""
    if isinstance(document, list):
        return recognise(document[0]) if document and not isinstance(document[0], list) else None
    if not isinstance(document, dict):
        return None
    keys = document.keys()
    if document.get("type") in ("request", "response") and ("messages" in keys or "outputs" in keys):
        return REQUESTS
    if {"max_iterations", "nodes"} <= keys or {"initial_message", "transitions"} <= keys:
        return MOATLESS
    if "llm_interaction" in keys or {"llm_interactions", "agent_steps"} <= keys:
        return TRAE
    if {"agent", "workspace", "execution_status"} <= keys:
        return STATE
    if _thinks_and_acts(document.get("conversations")):
        return AGENTTUNING
    if {"instance_id", "problem_statement", "base_commit"} <= keys:
        return TASK
    if {"instance_id", "model_patch"} <= keys:
        return PREDICTIONS
    if {"resolved_ids", "total_instances"} <= keys:
        return VERDICTS
    return _by_instance(document)


def _thinks_and_acts(messages: object) -> bool:
    if not isinstance(messages, list):
        return False
    return any(
        isinstance(message, dict)
        and isinstance(said := message.get("content"), str)
        and said.startswith("Think: ")
        and "\nAct: " in said
        for message in messages[:8]
    )


def _by_instance(document: dict[str, Any]) -> str | None:
    """An object whose keys are instance ids: predictions, or one instance's report."""
    first = next(iter(document.values()), None)
    if not isinstance(first, dict):
        return None
    if "model_patch" in first:
        return PREDICTIONS
    return VERDICTS if {"resolved", "patch_successfully_applied"} <= first.keys() else None
