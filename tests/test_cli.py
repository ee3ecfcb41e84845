"""The commands through their only door: arguments in, JSON and exit codes out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALL = "<function=bash>\n<parameter=command>{}</parameter>\n</function>"


def swe_srl(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swe_srl", *map(str, arguments)]
    variables = dict(os.environ)  # and no COLUMNS, which readline sets for children alone
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What was said to a user who asked wrongly: one readable paragraph, and nothing else."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "pydantic", "numpy", "matplotlib", "git", "rapidfuzz")
    code = f"import swe_srl.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["ingest", "inspect", "score", "record", "train", "evaluate", "doctor", "replay", "rollout", "ladder"]
)
def test_every_help_shows_an_example(command: str) -> None:
    done = swe_srl(command, "--help")
    assert done.returncode == 0
    assert f"Example: swe-srl {command}" in done.stdout


def test_score(tmp_path: Path) -> None:
    expert, proposed = tmp_path / "expert.txt", tmp_path / "proposed.txt"
    expert.write_text("<think>as an expert thinks</think>\n" + CALL.format("ls"))
    proposed.write_text("<think></think>" + CALL.format("ls"))
    found = json.loads(swe_srl("score", "--expert", expert, "--proposed", proposed, "--json").stdout)
    assert found["reward"] == 1.0
    assert found["format_error"] is None
    assert found["parts"]["similarity"] == 1.0

    proposed.write_text(CALL.format("ls"))  # a bare call
    found = json.loads(swe_srl("score", "--expert", expert, "--proposed", proposed, "--json").stdout)
    assert found["reward"] == -1.0
    assert found["format_error"] == "no think block"


def test_score_takes_files_as_they_are(tmp_path: Path) -> None:
    command = "printf 'a\r\nb' && grep '</think>' x"  # line ends are content, and so is a tag in a command
    expert, proposed = tmp_path / "expert.txt", tmp_path / "proposed.txt"
    expert.write_bytes(CALL.format(command).encode())
    proposed.write_bytes(b"<think></think>" + CALL.format(command.replace("\r", "")).encode())
    found = json.loads(swe_srl("score", "--expert", expert, "--proposed", proposed, "--json").stdout)
    assert found["format_error"] is None
    assert 0 < found["reward"] < 1


def test_score_needs_an_expert_call(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    assert "no call" in refused(swe_srl("score", "--expert", tmp_path / "a", "--proposed", tmp_path / "a"))
    assert "cannot be read" in refused(swe_srl("score", "--expert", tmp_path / "b", "--proposed", tmp_path / "a"))


def test_ingest_then_inspect(tmp_path: Path) -> None:
    logs = ROOT / "trajectories" / "xml-messages"
    found = json.loads(swe_srl("ingest", logs, "--out", tmp_path / "store", "--json").stdout)
    assert found["trajectories"] == sum(file["trajectories"] for file in found["files"]) > 0
    assert found["steps"] == sum(file["steps"] for file in found["files"])
    seen = json.loads(swe_srl("inspect", tmp_path / "store", "--json").stdout)
    assert (seen["trajectories"], seen["steps"]) == (found["trajectories"], found["steps"])


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "[old]" / "[" / "b]"  # to rich "[old]" is a style, "[/b]" the end of one
    folder.mkdir(parents=True)
    source = ROOT / "trajectories" / "openai-chat" / "spans.jsonl"
    (folder / "a.jsonl").write_bytes(source.read_bytes().split(b"\n")[0])
    done = swe_srl("ingest", "[old]", "--out", "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "what is in [old]/[/b]" in done.stdout
    assert "a.jsonl" in done.stdout


def test_inspect_shows_two_stages_apart(tmp_path: Path) -> None:
    from swe_srl.runs import write_rows

    row = {
        "step_id": "t#1",
        "draw": 0,
        "sample": 0,
        "live": True,
        "text": "[a-z] :bug:",
        "reward": None,
        "format_error": None,
    }
    (tmp_path / "config.toml").write_text('[data]\npath = "none"\n')
    (tmp_path / "events.jsonl").touch()
    for stage in ("1-a", "2-b"):
        write_rows(tmp_path / "stages" / stage / "rollouts" / "step_1.jsonl.zst", [row])
    seen = swe_srl("inspect", tmp_path, "--step", "1")
    assert seen.returncode == 0, seen.stderr
    assert "1-a, draw 0: t#1" in seen.stdout
    assert " [a-z] :bug: " in seen.stdout
    assert "2-b, draw 0: t#1" in seen.stdout
    assert len(json.loads(swe_srl("inspect", tmp_path, "--step", "1", "--json").stdout)["rows"]) == 2


def test_inspect_shows_what_the_policy_sees(tmp_path: Path) -> None:
    logs = ROOT / "trajectories" / "openai-chat" / "spans.jsonl"
    words = refused(swe_srl("inspect", logs, "--trajectory", "spans__"))
    name = words.split("did you mean '")[1].split("'")[0]
    step = json.loads(swe_srl("inspect", logs, "--trajectory", name, "--step", "3", "--json").stdout)
    assert len(step["history"]) == 2
    assert step["target"].startswith("<think>")
    assert "best constant" in step["floors"]
    assert "steps 1 to" in refused(swe_srl("inspect", logs, "--trajectory", name, "--step", "99"))


def test_a_users_mistakes_are_one_paragraph(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    store = tmp_path / "store"
    for command in (["ingest", tmp_path / "none", "--out", store], ["train", "configs/srl.toml", "data.path=none"]):
        words = refused(swe_srl(*command))
        assert "none does not exist" in words
        assert "swe-srl ingest" in words
        assert "swe-srl record" in words
    assert "No log file" in refused(swe_srl("ingest", empty, "--out", store))
    run = f"run={tmp_path / 'run'}"
    assert "no folder /nope" in refused(swe_srl("train", "configs/srl.toml", "model.path=/nope", run))
    assert "did you mean 'model'" in refused(swe_srl("train", "configs/srl.toml", "modle.path=x", run))
    assert "did you mean 'group_size'" in refused(swe_srl("train", "configs/srl.toml", "stage.srl.group_siz=8", run))
    assert "did you mean 'srl.toml'" in refused(swe_srl("train", "configs/slr.toml", run))
    assert "no folder ./nope" in refused(swe_srl("doctor", "configs/srl.toml", "model.path=./nope"))
    assert "model.device: 'gpu'" in refused(swe_srl("train", "configs/quickstart.toml", "model.device=gpu", run))
    assert "model.path is not set" in refused(swe_srl("evaluate", "configs/eval_steps.toml"))


def test_a_mended_mistake_may_use_the_same_run_folder(tmp_path: Path) -> None:
    run = f"run={tmp_path / 'run'}"
    refused(swe_srl("train", "configs/srl.toml", "model.path=/nope", run))
    assert "no folder /nein" in refused(swe_srl("train", "configs/srl.toml", "model.path=/nein", run))


def test_ctrl_c_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "swe_srl", "train", "configs/quickstart.toml", f"run={tmp_path / 'run'}"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a runner in the background has it ignored
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heed) as process:
        assert process.stderr
        assert process.stderr.readline()  # the first thing it says: it is at work
        process.send_signal(signal.SIGINT)
        assert "the same command goes on" in process.stderr.read()
    assert process.returncode == 130


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = swe_srl("train", "configs/quickstart.toml", f"run={tmp_path / 'file' / 'run'}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_doctor_and_every_config_fits_its_model(tmp_path: Path) -> None:
    found = json.loads(swe_srl("doctor", "configs/quickstart.toml", "--json").stdout)
    assert found["sandboxes"]["local"] == found["engines"]["hf"] == "ok"
    assert found["engines"]["openai"].startswith("ok")
    assert {"docker", "datasets", "swebench"} <= found["packages"].keys()
    assert found["config"]["fits"]
    assert found["config"]["steps"]["train"] > 0


def test_doctor_knows_a_training_by_its_stages() -> None:
    """Though it has a table of attempts, too."""
    found = json.loads(swe_srl("doctor", "configs/rlvr.toml", "--json").stdout)
    assert found["config"]["steps"]["train"] > 0


def test_doctor_tries_the_sandbox_that_a_config_names(tmp_path: Path) -> None:
    given = ("doctor", "configs/quickstart.toml", "stage.srl.execute=true", "sandbox.kind=local")
    assert json.loads(swe_srl(*given, "--json").stdout)["config"]["sandbox"]["kind"] == "local"
    assert "no tasks can be read" in swe_srl(*given, f"sandbox.tasks={tmp_path}").stderr
    found = json.loads(swe_srl("doctor", "configs/record.toml", "sandbox.kind=local", "--json").stdout)
    assert found["config"]["sandbox"]["n_tasks"] > 100
    assert "did you mean 'limit'" in refused(swe_srl("doctor", "configs/rollout.toml", "rollout.limt=3"))


def test_doctor_says_of_each_sandbox_what_it_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    shown = swe_srl("doctor").stdout
    assert "no Docker daemon" in " ".join(shown.split())
    assert "anything: commands run on this machine, as you" in shown


def test_rollout_ends_with_where_all_is(tmp_path: Path) -> None:
    given = ("agent=gold", "limit=1", "sandbox.kind=local", f"run={tmp_path}")
    done = swe_srl("rollout", "configs/rollout_bugfix.toml", *given)
    assert done.stdout.splitlines()[-3:] == [
        f"run          {tmp_path}",
        f"rollouts     {tmp_path}/rollouts/episodes.jsonl",
        f"look at them swe-srl inspect {tmp_path}/rollouts",
    ]
    assert "tokens/s" not in done.stderr  # a script has none


def test_record_writes_demonstrations(tmp_path: Path) -> None:
    done = swe_srl("record", "configs/record.toml", "limit=1", "copies=1", f"out={tmp_path}", "--json")
    assert json.loads(done.stdout)["trajectories"] == 1


def test_doctor_counts_what_a_checkpoint_has(tmp_path: Path) -> None:
    from made import make_qwen2, make_tokenizer

    model = make_qwen2()
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    found = json.loads(swe_srl("doctor", "configs/sft.toml", f"model.path={tmp_path}", "--json").stdout)["config"]
    assert found["parameters"] == model.num_parameters()
    assert found["device_memory_gib"] > 0
    assert 0 < found["prefix_reuse"]["sft"] < 0.9  # one answer a prompt: runs' issues, and the system prompt
