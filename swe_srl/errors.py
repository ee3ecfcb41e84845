"""Every error that a user can cause, as a small tree.

    SweSrlError
    ├── UserError        asked wrongly: a path, a key, a value (the CLI exits with 2)
    │   ├── ConfigError      a configuration that cannot mean anything
    │   └── DataError        data that holds nothing usable
    ├── FormatError      a completion that is not in the policy's form; `reason` is one of `actions.REASONS`
    ├── UnrenderableError  an action that the policy's form cannot hold; never a target
    ├── TemplateError    a tokenizer whose chat template cannot be trained on
    ├── SandboxError     a sandbox that is gone: infrastructure, never a reward
    │   └── NodeLostError    … with the machine, or the process there, that it was on
    ├── PolicyError      an answer that could not be had: infrastructure too (an endpoint that fails)
    │   └── ContextError     … because the prompt is longer than the model takes
    └── TrainingError    a run that must stop, with its reason (the CLI exits with 1)

A message says where, what was seen, what was expected, and what to do. Anything else that is raised is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations


class SweSrlError(Exception):
    """The root: catch this to catch all that this package raises on purpose."""


class UserError(SweSrlError):
    """Asked wrongly."""


class ConfigError(UserError):
    """A configuration that cannot mean anything."""


class DataError(UserError):
    """Data that holds nothing usable."""


class FormatError(SweSrlError):
    """A completion that is not in the policy's form."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class UnrenderableError(SweSrlError):
    """An action that the policy's form cannot hold."""


class TemplateError(UserError):
    """A tokenizer whose chat template cannot be trained on."""


class SandboxError(SweSrlError):
    """A sandbox that is gone: infrastructure, never a reward."""


class NodeLostError(SandboxError):
    """A sandbox on a fleet, whose node or process there was lost: what was done in it is done again in another one."""


class PolicyError(SweSrlError):
    """An answer that could not be had: infrastructure, never a reward."""


class ContextError(PolicyError):
    """A prompt that is longer than the model takes: nothing was cut, nothing was asked."""


class TrainingError(SweSrlError):
    """A run that must stop; the message is the reason."""
