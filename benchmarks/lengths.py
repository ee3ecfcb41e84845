"""How long prompts and answers are in a corpus, and how much of a batch's tokens the prefix tree saves.

    python benchmarks/lengths.py configs/paper_swe_7b.toml --tokenizer FOLDER --data ../shared/data/corpus

The constants of swe_srl/plan/costs.py come from it. Answers are the experts' own turns, their thoughts included.
"""

from __future__ import annotations

import argparse
import json
from statistics import fmean

from swe_srl.data import load_dataset
from swe_srl.loading import load
from swe_srl.policies import seed_of
from swe_srl.render import Renderer
from swe_srl.train.model import load_tokenizer
from swe_srl.train.sources import Order, expert_sample
from swe_srl.train.tree import Strand, grow
from swe_srl.train_config import TrainConfig


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("config")
    options.add_argument("overrides", nargs="*")
    options.add_argument("--tokenizer", required=True)
    options.add_argument("--data", required=True)
    options.add_argument("--draws", type=int, default=512)
    options.add_argument("--answers", type=int, default=8)
    options.add_argument("--windows", nargs="+", default=["2", "all"])
    asked = options.parse_args()
    changes = [f"data.path={asked.data}", "data.validation=0.1", "data.resolved_only=false", *asked.overrides]
    config = load(TrainConfig, asked.config, changes)
    train = load_dataset(config.data).splits["train"]
    order = Order(len(train), seed_of(config.seed, "srl"))
    tokenizer = load_tokenizer(asked.tokenizer)
    for window in asked.windows:
        prompt = config.prompt.model_copy(update={"window": int(window) if window != "all" else window})
        renderer = Renderer(tokenizer, prompt.settings())
        drawn = [expert_sample(renderer, train[order[draw]]).tokens for draw in range(asked.draws)]
        prompts = sorted(len(tokens.prompt_ids) for tokens in drawn)
        trunk = len(grow(Strand(tokens.prompt_ids, (0,), 0) for tokens in drawn).ids)
        learnt = asked.answers * sum(len(tokens.ids) - 1 for tokens in drawn)  # answers share nothing with each other
        alone, in_trie = asked.answers * sum(prompts) + learnt, trunk + learnt
        found = {
            "window": window,
            "steps": len(train),
            "draws": len(drawn),
            "prompt": round(fmean(prompts)),
            "prompt_p90": prompts[int(0.9 * len(prompts))],
            "prompt_max": prompts[-1],
            "answer": round(fmean(len(tokens.ids) for tokens in drawn)),
            "tokens_alone": alone,
            "tokens_in_trie": in_trie,
            "times_fewer": round(alone / in_trie, 2),
            "prompts_shared": round(1 - trunk / sum(prompts), 3),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
