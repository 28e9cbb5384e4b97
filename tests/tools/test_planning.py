"""The plan of a run: counts against public figures, parts against sums by hand, predictions against real passes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, Qwen2Config, Qwen3Config

from archer.engines.kind import GIB
from archer.errors import ModelError, UserError
from archer.models.loading import load_config
from archer.models.transformers_names import enable_checkpointing
from archer.recipe.reading import changed_recipe, find_recipe, read_recipe
from archer.recipe.sections import LoraSection, ModelSection
from archer.tools.planning.activations import PassDtypes, anew, saved, saved_by
from archer.tools.planning.launch import PlanRequest, server_commands, slurm, train_commands
from archer.tools.planning.live import LiveBytes
from archer.tools.planning.memory import PHASES, Cluster
from archer.tools.planning.page import show
from archer.tools.planning.plan import TrainingPlan, make_plan
from archer.tools.planning.remedy import more_machines, remedy
from archer.tools.planning.shape import find_model, read_shape

ROOT = Path(__file__).parents[2]
PAPER = Cluster(nodes=2, gpus=8, memory=80)
RECIPES = sorted(path.stem for path in find_recipe("lab").parent.glob("*.yaml"))
R1, P = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000


def plan_of(name: str, *changes: str, algorithm: str = "archer", cluster: Cluster = PAPER) -> TrainingPlan:
    return make_plan(read_recipe(name, changes), algorithm, cluster)


def parts(plan: TrainingPlan, phase: str) -> dict[str, float]:
    return {part.name: getattr(part, phase) for part in plan.memory.parts}


@pytest.mark.parametrize(
    ("path", "parameters", "active"),  # as the hub's safetensors metadata has them; Qwen: "3.3B activated"
    [
        (R1, 1_777_088_000, 1_777_088_000),
        ("Qwen/Qwen3-4B", 4_022_468_096, 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360, 8_190_735_360),
        ("Qwen/Qwen3-30B-A3B", 30_532_122_624, 3_353_032_704),
    ],
)
def test_counts_are_those_of_the_public_models(path: str, parameters: int, active: int) -> None:
    named, source = find_model(ModelSection(path))
    shape = read_shape(load_config(named), source)
    assert (shape.parameters, shape.active) == (parameters, active)
    assert source == "a copy in tools/planning/configs, for planning only"


def test_an_adapter_counts_rank_times_inputs_and_outputs() -> None:
    config = load_config(find_model(ModelSection(R1))[0])
    # a layer: q and o 2 x 3072, k and v 2 x 1792, gate, up and down 3 x 10496
    assert read_shape(config, "", LoraSection(rank=16)).adapter == 16 * 28 * (6144 + 3584 + 31488)
    assert read_shape(config, "", LoraSection(rank=8, targets=("q_proj",))).adapter == 8 * 28 * 3072
    with pytest.raises(ModelError, match="no linear layer has such a name"):
        read_shape(config, "", LoraSection(targets=("query",)))


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("how", [PassDtypes(False, False), PassDtypes(False, True), PassDtypes(True, False)])
def test_what_a_pass_keeps_is_counted_to_the_byte(kind: type[PretrainedConfig], how: PassDtypes) -> None:
    config = kind(
        hidden_size=96, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
        vocab_size=500,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if how.bf16_weights else torch.float32)
    real = saved_by(model.train(), torch.zeros((1, 192), dtype=torch.long), how.autocast)
    assert saved(config, how, 192) == real > 1_000_000


def test_a_layer_computed_anew_is_counted_to_the_byte() -> None:
    config = Qwen3Config(
        hidden_size=64, intermediate_size=1024, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        num_hidden_layers=1, vocab_size=16, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    enable_checkpointing(model)
    with LiveBytes() as live:
        total = model.base_model(input_ids=torch.zeros((1, 256), dtype=torch.long), use_cache=False)[0].sum()
        before = live.peak = live.bytes
        total.backward()
    assert anew(config, PassDtypes(False, False), 256) == live.peak - before > 256 * 6 * 1024 * 4


def test_the_state_of_each_stage_by_hand() -> None:
    name = "archer-math-1.5b"
    two = parts(plan_of(name), "updating")
    assert (two["weights"], two["reference"]) == (2 * P, 2 * P)
    assert (two["gradients"], two["optimizer"]) == (4 * P / 16, 12 * P / 16)
    one = parts(plan_of(name, "update.deepspeed.stage=1"), "updating")
    assert (one["gradients"], one["optimizer"]) == (4 * P, 12 * P / 16)
    three = parts(plan_of(name, "update.deepspeed.stage=3"), "updating")
    assert (three["weights"], three["reference"], three["gradients"]) == (2 * P / 16, 2 * P / 16, 4 * P / 16)
    off = plan_of(name, "update.deepspeed.offload=true")
    assert not {"optimizer", "gradients"} & set(parts(off, "updating"))
    assert off.memory.host == 8 * max(4 * P, 16 * P / 16 + 2 * P)
    alone = parts(plan_of(name, "update.deepspeed=null", cluster=Cluster(1, 1, 80)), "updating")
    assert (alone["weights"], alone["gradients"], alone["optimizer"]) == (4 * P, 4 * P, 8 * P)


def test_only_a_kl_term_needs_a_reference_and_an_adapter_needs_none() -> None:
    assert "reference" not in parts(plan_of("archer-math-1.5b", algorithm="grpo"), "updating")
    lora = parts(plan_of("archer-math-1.5b", "update.lora={rank: 16}"), "updating")
    assert "reference" not in lora
    assert lora["gradients"] == 4 * 18_464_768 / 16


def test_the_engine_s_cache_by_hand() -> None:
    plan = plan_of("archer-math-1.5b")
    sampling, updating = parts(plan, "sampling"), parts(plan, "updating")
    assert sampling["engine's weights"] == 2 * P
    assert sampling["KV cache"] == 0.5 * 80 * GIB - 2 * P - 2 * GIB
    # a token: keys and values x 28 layers x 2 heads x 128, in bfloat16
    assert plan.memory.cache == int(sampling["KV cache"] / (2 * 28 * 2 * 128 * 2)) == 1_299_107
    assert updating["KV cache"] == updating["engine's weights"] == 0  # asleep
    ahead = parts(plan_of("archer-math-1.5b", "rollout.prefetch=1"), "updating")
    assert ahead["KV cache"] == sampling["KV cache"]
    native = plan_of("lab", algorithm="archer", cluster=Cluster(1, 1, 8))
    assert native.memory.cache == 512 * native.load.row


def test_checkpointing_keeps_a_layer_s_input() -> None:
    saving = parts(plan_of("archer-math-1.5b"), "updating")
    keeping = parts(plan_of("archer-math-1.5b", "update.checkpointing=false"), "updating")
    tokens, answers = 34_816, 32_768
    rest = saving["activations"] - tokens * 28 * 2 * 1536 - answers * 2 * 1536
    assert rest == tokens * 9740  # embedding, rotary angles, last norm: as much with as without
    assert keeping["activations"] - saving["activations"] == tokens * 28 * (103_480 - 3072)
    assert "a layer again" not in keeping


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_has_a_plan(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = read_recipe(name)
    cluster = PAPER if recipe.update.deepspeed else Cluster(1, 1, 80)
    for algorithm in recipe.algorithms:
        plan = make_plan(recipe, algorithm, cluster)
        assert plan.faults == ()
        for phase in PHASES:
            assert plan.memory.total(phase) == sum(parts(plan, phase).values())
            assert 0 < plan.memory.total(phase) < 80 * GIB
        commands = train_commands(plan, PlanRequest(name))
        assert len(commands) == cluster.nodes
        assert all(f" train {name} --algorithm {algorithm} --seed 0" in command for command in commands)
        show(plan, PlanRequest(name))
        said = capsys.readouterr().out
        assert f"{plan.shape.parameters:,}" in said
        assert "It fits" in said
        assert all(command in said for command in commands)


def test_the_work_of_the_paper_s_recipe() -> None:
    work = plan_of("archer-math-1.5b").work
    assert (work.responses, work.tokens, work.updates, work.total) == (1024, 1024 * 32768, 6, 3120)


def test_the_slurm_script_is_a_shell_script() -> None:
    script = slurm(plan_of("archer-math-1.5b"), PlanRequest("archer-math-1.5b", ("data=[{name: it's}]",)))
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    words = ["#SBATCH --nodes=2", "#SBATCH --gpus-per-node=8", "--nproc-per-node 8", "$SLURM_NODEID", "sbatch"]
    assert [word in script for word in words] == [True, True, True, True, False]


def test_servers_are_started_first() -> None:
    urls = '["http://far:8000", "http://far:8001"]'
    plan = plan_of("archer-math-1.5b", f"rollout.vllm.servers={urls}", "rollout.vllm.memory=0.9")
    assert "KV cache" not in parts(plan, "sampling")
    found = server_commands(plan)
    assert [host for host, _ in found] == ["far", "far"]
    for port, (_, command) in enumerate(found, 8000):
        assert f"vllm serve {R1} " in command
        assert f"--port {port}" in command
        assert "--max-model-len 34816" in command


@pytest.mark.parametrize(
    ("name", "algorithm", "cluster"),
    [
        ("archer-math-1.5b", "archer", Cluster(1, 1, 24)),
        ("archer-math-1.5b", "archer", Cluster(1, 8, 16)),
        ("archer-math-1.5b", "grpo", Cluster(1, 1, 40)),
        ("archer-math-qwen3-8b", "archer", Cluster(1, 8, 40)),
        ("archer-math-qwen3-30b-a3b", "archer", Cluster(1, 8, 80)),
        ("lab", "archer", Cluster(1, 1, 0.1)),
    ],
)
def test_what_does_not_fit_comes_with_changes_that_do(name: str, algorithm: str, cluster: Cluster) -> None:
    recipe = read_recipe(name)
    plan = make_plan(recipe, algorithm, cluster)
    assert plan.faults
    changes = remedy(plan)
    assert changes
    again = make_plan(read_recipe(name, changes), algorithm, cluster)  # as a user would type them
    assert again.faults == ()
    for change in changes:  # none is in vain
        fewer = tuple(one for one in changes if one != change)
        assert make_plan(changed_recipe(recipe, fewer), algorithm, cluster).faults


def test_what_no_change_can_fit_says_so() -> None:
    plan = plan_of("archer-math-qwen3-30b-a3b", cluster=Cluster(1, 1, 8))
    assert remedy(plan) is None
    assert more_machines(plan) is None  # every rank loads all weights
    assert plan_of("archer-math-1.5b", cluster=PAPER).faults == ()


def test_faults_name_what_is_missing() -> None:
    ranks = plan_of("lab", algorithm="archer", cluster=Cluster(1, 2, 80)).faults
    assert ranks == ("2 ranks have nothing to train together with: update.deepspeed is not set",)
    # 0.075 x 80 GiB - 2 x 1,777,088,000 bytes of weights - 2 GiB = 740,791,296 bytes, 28,672 a token
    small = plan_of("archer-math-1.5b", "rollout.vllm.memory=0.075").faults
    assert small == ("the engine's cache holds 25,836 tokens, vLLM asks for a context of 34,816",)
    context = plan_of("archer-math-1.5b", "model.context=30000").faults
    assert context == ("a prompt and a response make 34,816 tokens, the model's context is 30,000",)


def test_a_model_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(ModelError, match="model.path: nobody/nothing: cannot be loaded"):
        plan_of("archer-math-1.5b", "model.path=nobody/nothing")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "perf" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("checkpointing", [False, True])
def test_predictions_hold_in_a_real_update(checkpointing: bool) -> None:
    script = load_script("memory")
    config = Qwen2Config(
        hidden_size=96, intermediate_size=384, num_hidden_layers=6, vocab_size=700, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    found = script.compare(
        script.Case("test", config, False, checkpointing, 2, 120), torch.device("cpu")
    )["predicted / measured"]  # fmt: skip
    assert {"weights", "reference", "gradients", "optimizer", "activations", "peak"} <= set(found)
    wrong = {name: ratio for name, ratio in found.items() if not 0.88 < ratio < 1.12}
    assert wrong == {}


def test_the_command_prints_the_plan_and_trains_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archer", "train", "archer-math-1.5b", "--dry-run", "--gpu-memory", "24"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for said in (
        "1,777,088,000",
        "torchrun --nnodes 2 --nproc-per-node 8 --node-rank 1",
        "#SBATCH",
        "archer data build",
    ):
        assert said in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_machines_without_a_dry_run_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archer", "train", "lab", "--algorithm", "grpo", "--nodes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, "belong to --dry-run" in done.stderr) == (2, True)


def test_an_algorithm_that_is_not_in_the_recipe() -> None:
    with pytest.raises(UserError, match="no algorithm"):
        plan_of("archer-math-1.5b", algorithm="archr")
