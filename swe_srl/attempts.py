"""Whole attempts of a config, kept as they end: what `rollout` and `evaluate` have in common.

    with run.held():
        for episode in attempts(config, tasks, opened, run): ...

A run that was killed goes on where it was: what its policy has finished is not made again.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from swe_srl import episodes
from swe_srl.agent_config import AgentConfig
from swe_srl.config import PromptConfig
from swe_srl.cpu import CpuMeter
from swe_srl.engines import Engine, Request, Sampling
from swe_srl.episodes import Episode
from swe_srl.evaluate import questions
from swe_srl.evaluate.hacking import flags
from swe_srl.evaluate.localize import localize_repair
from swe_srl.evaluate.oracle_edit import oracle_edit
from swe_srl.evaluate.scripted_answers import scripted_asker
from swe_srl.fingerprint import fingerprint
from swe_srl.policies.scripted import scripted
from swe_srl.rollout import Job, Opened, rollout
from swe_srl.runs import Run
from swe_srl.tasks import digest
from swe_srl.types import Task, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from swe_srl.policies.chat import ChatPolicy
    from swe_srl.policies.engine import EnginePolicy

Model = Union["EnginePolicy", "ChatPolicy"]  # both answer an agent's states and free questions


PROTOCOLS: dict[str, questions.Protocol] = {"oracle_edit": oracle_edit, "localize_repair": localize_repair}


def episodes_path(run: Run | Path) -> Path:
    """A run's episodes: the one file that training, viewers and graders read."""
    return (run.folder if isinstance(run, Run) else run) / "rollouts" / episodes.FILE


def refuse_what_cannot_act(config: AgentConfig) -> None:
    """Raises ConfigError, before a run has a folder, for a scripted agent that the protocol has no script of."""
    if config.agent != "policy":
        scripted(config.agent, config.seed) if config.mode == "agent" else scripted_asker(config.agent)


def with_served(config: AgentConfig) -> AgentConfig:
    """The config with the name of the model that its endpoint serves: who acts is part of what a run is.

    The endpoint is asked where the config leaves it open. Raises ConfigError, and PolicyError where it does not answer.
    """
    if config.agent != "policy" or config.engine.kind != "openai" or config.engine.served is not None:
        return config
    from swe_srl.policies.chat import served_model

    engine = config.engine.model_copy(update={"served": served_model(config.engine)})
    return config.model_copy(update={"engine": engine})


def attempts(config: AgentConfig, tasks: Sequence[Task], opened: Opened, run: Run) -> Generator[Episode]:
    """`rollout.samples` attempts at each task: first those that the run holds already, then each as it ends.

    Each is on disk before it is yielded. At the end the run's events get a row: how they ended, and where the CPU
    seconds went. Raises ConfigError, also where the weights or the tasks are not those that the run began with, and
    PolicyError where an endpoint does not answer at all.
    """
    path = episodes_path(run)
    wanted = {(task.task_id, sample): Job(task, sample) for sample in range(config.rollout.samples) for task in tasks}
    done = [episode for episode in episodes.take_up(path) if episode.key in wanted]
    weights = fingerprint(config.model.path) if config.agent == "policy" and config.model.path else None
    facts = {"weights": weights, "tasks": digest(tasks)}
    if done:
        run.begin(**facts)
        print(f"swe-srl: {len(done)} of {len(wanted)} attempts were here", file=sys.stderr)
    yield from done
    jobs = [job for key, job in wanted.items() if key not in {episode.key for episode in done}]
    if not jobs:
        return
    meter, ends = CpuMeter(), Counter[str]()
    with acting(config, meter) as model:
        run.begin(**facts)  # now that there is something to begin with: who asked wrongly may ask again
        with _accounted(run, meter, ends), contextlib.closing(_made(config, model, jobs, opened, meter)) as made:
            for episode in made:
                episode = _flagged(wanted[episode.key].task, episode)
                episodes.write(path, episode)
                ends[episode.end] += 1
                yield episode


def _flagged(task: Task, episode: Episode) -> Episode:
    """With what it did to pass the tests without the fix, if anything."""
    trajectory = episode.trajectory
    return replace(episode, flags=flags(task, trajectory.outcome.patch, trajectory.turns))


def _made(
    config: AgentConfig, model: Model | None, jobs: Sequence[Job], opened: Opened, meter: CpuMeter
) -> Generator[Episode]:
    """Attempts by the config's protocol; those of an agent that needs no model where there is none."""
    limits, seed = config.rollout, config.seed
    if config.mode == "agent":
        policy = model or scripted(config.agent, seed)
        calls = min(config.engine.concurrency, limits.workers) if config.engine.kind == "openai" else 1
        yield from rollout(policy, jobs, opened, limits, config.sandbox.timeout_s, seed, meter, calls)
        return
    protocol = PROTOCOLS[config.mode]
    yield from questions.attempts(protocol, model or scripted_asker(config.agent), jobs, opened, limits, seed, meter)


@contextlib.contextmanager
def acting(config: AgentConfig, meter: CpuMeter) -> Iterator[Model | None]:
    """The model of a config until the end of the block, or None for a scripted agent.

    Raises ConfigError, TemplateError and PolicyError.
    """
    if config.agent != "policy":
        yield None
        return
    temperature = config.rollout.temperature
    if config.engine.kind == "openai":
        from swe_srl.policies.chat import open_chat

        prompt = (config.prompt or PromptConfig()).settings()
        counts = config.rollout.token_budget is not None
        chat = open_chat(config.engine, prompt, temperature, counts_tokens=counts)
        with contextlib.closing(chat):
            yield chat
        return
    from swe_srl.policies.engine import open_policy

    policy = open_policy(config.model.origin(), config.model, config.prompt, config.engine, temperature)
    with contextlib.closing(policy.engine):
        yield replace(policy, engine=_Metered(policy.engine, meter))


# ------------------------------------------------------------------------------------------ CPU seconds


@dataclass(frozen=True, slots=True)
class _Metered:
    """An engine whose CPU seconds are told apart from those of rendering its prompts."""

    engine: Engine
    meter: CpuMeter

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        with self.meter.part("engine"):
            return self.engine.generate(requests, sampling)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self.engine.load_weights(weights)

    def rest(self) -> None:
        self.engine.rest()

    def stats(self) -> dict[str, float]:
        return self.engine.stats()

    def close(self) -> None:
        self.engine.close()


@contextlib.contextmanager
def _accounted(run: Run, meter: CpuMeter, ends: Counter[str]) -> Iterator[None]:
    """An event for the block: `harness` is what neither the engine nor the sandboxes took, rendering included.

    `others` are threads that no part of ours is on: of torch, of a pool of sandboxes, of who grades meanwhile.
    `children` are processes that ended: the sandboxes' where they are ours; Docker's are its daemon's.
    """
    wall, process, children = time.monotonic(), time.process_time(), _children_s()
    try:
        with meter.part("harness"):
            yield
    finally:
        parts = meter.seconds()
        whole = time.process_time() - process
        seconds = {
            "engine": parts.get("engine", 0.0),
            "sandboxes": parts.get("sandboxes", 0.0),
            "harness": parts.get("harness", 0.0) + parts.get("policy", 0.0),
            "others": max(whole - sum(parts.values()), 0.0),
            "children": _children_s() - children,
        }
        row: dict[str, Any] = {f"time/cpu/{name}": value for name, value in seconds.items()}
        run.event(event="attempts", ends=dict(ends), **row, **{"time/wall": time.monotonic() - wall})


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
