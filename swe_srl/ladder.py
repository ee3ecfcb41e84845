"""`swe-srl ladder`: the arms of the paper from one base, by one budget, on the same held-out steps and tasks.

    for each seed: the base, then each arm from its weights; each trained, measured, and kept as a row

SEED/ARM is a run directory of its own, so that a kill costs what training itself would lose; an arm whose row is there
is not touched again. The report is written after each seed, over the seeds that are done.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swe_srl.agent_config import AgentConfig, AttemptSandbox, EpisodeLimits
from swe_srl.config import EvaluateConfig, EvaluateSteps, ModelConfig
from swe_srl.data import load_dataset, require
from swe_srl.errors import ConfigError, DataError
from swe_srl.evaluate.agent import evaluate_agent
from swe_srl.evaluate.metrics import StepValues
from swe_srl.evaluate.offline import evaluate_steps
from swe_srl.evaluate.rows import whole_tasks
from swe_srl.ladder_config import BASE, LadderConfig
from swe_srl.ladder_report import Report, written
from swe_srl.ladder_rows import Row, Spent, kept, read, spent, write
from swe_srl.sandboxes.choice import working
from swe_srl.steps import SPLITS
from swe_srl.tasks import load
from swe_srl.train.chain import train


def ladder(config: LadderConfig) -> Report:
    """Train and measure what is not there yet, and write the report. Raises what training and evaluation raise."""
    climb = Climb.of(config)
    rows: list[Row] = []
    report: Report | None = None
    for place, seed in enumerate(config.seeds, 1):
        base = climb.row(BASE, seed, None)
        rows.append(base)
        rows += [climb.row(arm.name, seed, base) for arm in config.arm]
        report = written(config, rows, config.seeds[:place])
    assert report is not None  # there is at least one seed
    return report


@dataclass(frozen=True, slots=True)
class Climb:
    """What all arms share: the held-out tasks by name, and where attempts at them are made."""

    config: LadderConfig
    tasks: tuple[str, ...]
    kind: str | None

    @classmethod
    def of(cls, config: LadderConfig) -> Climb:
        """Raises ConfigError and DataError, before anything is trained."""
        if config.model.path is not None:
            config.model.origin()
        dataset = load_dataset(config.data)
        for split in SPLITS:
            require(dataset, split, config.data.path)
        if config.attempts is None:
            return cls(config, (), None)
        names = [task.task_id for task in load(config.attempts.tasks)]
        if not names:
            raise DataError("[attempts]: there is no such task")
        count = min(config.attempts.count or len(names), len(names))
        chosen = tuple(names[i * len(names) // count] for i in range(count))
        return cls(config, chosen, working(config.sandbox.kind))

    def row(self, name: str, seed: int, base: Row | None) -> Row:
        """An arm of a seed: as it is kept, or trained and measured now."""
        folder = Path(self.config.run) / f"seed_{seed}" / name
        asked = self._asked(name, seed, base)
        if (found := read(folder / "row.json")) is not None:
            if found.asked != asked:
                raise ConfigError(
                    f"{folder} was made by another configuration of this arm. Give another run=FOLDER, or remove that "
                    "folder to make it afresh"
                )
            return found
        print(f"ladder: seed {seed}, {name}", file=sys.stderr)
        checkpoint, cost = self._trained(name, seed, base, folder)
        steps, floor = self._steps(name, checkpoint, seed, folder)
        tasks, trained_on = self._attempts(checkpoint, seed, folder)
        made = Row(name, seed, asked, checkpoint, cost, floor, steps, tasks, len(self.tasks), trained_on)
        write(folder / "row.json", made)
        return made

    def _asked(self, name: str, seed: int, base: Row | None) -> str:
        """A hash of all that an arm's numbers hang on; where the ladder's folder lies is not among it."""
        config = self.config
        shared = {"run", "seeds", "arm", "base", "budget_cpu_s"}  # an arm or a seed more changes no other
        parts = [name, str(seed), config.model_dump_json(exclude=shared, exclude_defaults=True), *self.tasks]
        parts += [base.asked] if base else []
        for stage in config.chains.get(name, []):
            parts += [stage.kind, stage.model_dump_json(exclude_defaults=True)]  # a later version may have more keys
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _trained(self, name: str, seed: int, base: Row | None, folder: Path) -> tuple[str, Spent]:
        """The checkpoint, and what it took."""
        stages = self.config.chains.get(name)
        if stages is None:  # the base is a model that is there
            return self.config.model.origin(), Spent()
        training = self.config.training(name, stages, base.checkpoint if base else None, seed, str(folder / "training"))
        result = train(training)
        return result["checkpoint"], spent(Path(result["run_dir"]), result)

    def _steps(
        self, name: str, checkpoint: str, seed: int, folder: Path
    ) -> tuple[Mapping[str, StepValues], tuple[str, float]]:
        """Its values on the held-out steps, by mode; and the best floor's similarity there."""
        config = self.config
        asked = EvaluateSteps(split="test", out=str(folder / "steps"), **config.evaluate.model_dump())
        wanted = EvaluateConfig(
            seed=seed,
            model=self._model(checkpoint),
            data=config.data,
            prompt=config.prompt,
            engine=config.engine,
            reward=config.reward,
            sandbox=config.sandbox if config.evaluate.walks else None,
            evaluate=asked,
        )
        comparison, _ = evaluate_steps(wanted, {name: checkpoint})
        best = comparison.floors[comparison.best_floor]["similarity"]
        assert best is not None
        found = {str(mode): kept(summary) for mode, summary in comparison.policies[name].items()}
        return found, (comparison.best_floor, best.value)

    def _attempts(self, checkpoint: str, seed: int, folder: Path) -> tuple[Mapping[str, float], str]:
        """Task → share of its attempts that resolved it; and what of them it was trained on."""
        config, asked = self.config, self.config.attempts
        if asked is None:
            return {}, ""
        limits = EpisodeLimits(**config.rollout.model_dump(), samples=asked.samples, temperature=asked.temperature)
        found = evaluate_agent(
            AgentConfig(
                run=str(folder / "tasks"),
                seed=seed,
                model=self._model(checkpoint),
                prompt=config.prompt,
                engine=config.engine,
                tasks=asked.tasks.model_copy(update={"ids": list(self.tasks)}),
                images=config.images,
                sandbox=AttemptSandbox(kind=self.kind, timeout_s=config.sandbox.timeout_s),
                rollout=limits,
                grade=config.grade,
            )
        )
        return whole_tasks(found.report.rows), found.report.trained_on.words

    def _model(self, checkpoint: str) -> ModelConfig:
        return ModelConfig(path=checkpoint, dtype=self.config.model.dtype, device=self.config.model.device)
