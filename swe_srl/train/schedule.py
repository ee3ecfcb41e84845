"""The learning rate of a step."""

from __future__ import annotations

import math

from swe_srl.train_config import Stage


def learning_rate(settings: Stage, step: int, total: int) -> float:
    """lr of the update after `step` updates: a linear warm-up, then constant, linear or cosine to final_lr · lr."""
    warm = round(settings.warmup * total)
    if step < warm:
        return settings.lr * (step + 1) / warm
    if settings.schedule == "constant":
        return settings.lr
    place = (step - warm) / max(total - warm, 1)
    shape = 1 - place if settings.schedule == "linear" else (1 + math.cos(math.pi * place)) / 2
    return settings.lr * (settings.final_lr + (1 - settings.final_lr) * shape)
