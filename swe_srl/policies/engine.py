"""The policy over an engine: prompts as ids in, sampled ids with their log-probabilities out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swe_srl.engines import Engine, Request, Sampling
from swe_srl.errors import ContextError, PolicyError
from swe_srl.policies import Question, State
from swe_srl.render import Renderer
from swe_srl.types import Completion, Step

if TYPE_CHECKING:
    from swe_srl.config import EngineConfig, ModelConfig, PromptConfig


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """Render, sample, read.

    `temperature` is that of whole attempts; training and evaluation on steps name one in each call. `positions` is
    how many tokens the model takes, prompt and answer together; None: as many as come.
    """

    renderer: Renderer
    engine: Engine
    max_tokens: int
    temperature: float = 1.0
    positions: int | None = None

    def __call__(self, states: Sequence[State]) -> list[Completion | PolicyError]:
        """The next turn of each attempt, in the prompt of training: the same renderer writes both."""
        prompts = [self.renderer.prompt_ids(state.task.issue, state.turns) for state in states]
        return self._answer_those_that_fit(prompts, [state.seed for state in states])

    def ask(self, questions: Sequence[Question]) -> list[Completion | PolicyError]:
        """A free answer to each."""
        prompts = [self.renderer.conversation_ids(question.messages) for question in questions]
        return self._answer_those_that_fit(prompts, [question.seed for question in questions])

    def _answer_those_that_fit(
        self, prompts: Sequence[tuple[int, ...]], seeds: Sequence[int]
    ) -> list[Completion | PolicyError]:
        fits = [self.positions is None or len(prompt) + self.max_tokens <= self.positions for prompt in prompts]
        fitting = [(prompt, seed) for prompt, seed, fit in zip(prompts, seeds, fits, strict=True) if fit]
        answers = iter(self.answer([p for p, _ in fitting], [s for _, s in fitting], self.temperature))
        return [next(answers) if fit else self._too_long(prompt) for prompt, fit in zip(prompts, fits, strict=True)]

    def _too_long(self, prompt: tuple[int, ...]) -> ContextError:
        return ContextError(
            f"the prompt's {len(prompt):,} tokens and the answer's {self.max_tokens:,} are more than the "
            f"{self.positions:,} that the model takes: lower the [prompt]'s limits or engine.max_tokens"
        )

    def prompt(self, step: Step) -> tuple[int, ...]:
        return self.renderer.prompt_ids(step.trajectory.issue, step.history)

    def answer(self, prompts: Sequence[tuple[int, ...]], seeds: Sequence[int], temperature: float) -> list[Completion]:
        """One completion for each prompt and seed; equal prompts are computed once."""
        sampling = Sampling(temperature, self.max_tokens, self.renderer.end_id)
        requests = [Request(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return [
            Completion(self.renderer.decode(tokens.ids), tokens.ids[-1] != self.renderer.end_id, tokens)
            for tokens in self.engine.generate(requests, sampling)
        ]


def open_policy(
    path: str, model: ModelConfig, prompt: PromptConfig | None, settings: EngineConfig, temperature: float = 1.0
) -> EnginePolicy:
    """A checkpoint as a policy; without `prompt` it is asked in the prompts that it was trained on.

    Close its engine when it is not needed any more. Raises ConfigError and TemplateError.
    """
    import torch

    from swe_srl.config import PromptConfig
    from swe_srl.engines.choice import open_engine
    from swe_srl.lineage import read_lineage
    from swe_srl.train.model import device_of, load_model, load_tokenizer

    dtype: torch.dtype = getattr(torch, model.dtype)
    on = torch.device("cpu") if settings.kind == "vllm" else device_of(model)  # vLLM has a copy of its own
    network = load_model(path, on)
    engine = open_engine(settings, path, network, dtype)
    if prompt is None:
        recorded = read_lineage(path).prompt
        if recorded is None:
            print(
                f"swe-srl: {path} does not say in which prompts it was trained: the default [prompt]", file=sys.stderr
            )
        prompt = PromptConfig(**recorded or {})
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    renderer = Renderer(load_tokenizer(path), prompt.settings())
    return EnginePolicy(renderer, engine, settings.max_tokens, temperature, positions)
