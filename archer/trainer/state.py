"""A policy on disk: one format for all backends and any number of ranks.

model*.safetensors, config.json   a Hugging Face model in float32, with any adapter merged
optimizer/00000.safetensors       AdamW's state by parameter and kind (``model.norm.weight|exp_avg``), and the adapter
policy.json                       training and optimizer steps done

Parameters are gathered and set one by one, so that a rank holds at most the file that it writes. Rank 0 also holds all
weights in CPU memory, for ``save_pretrained``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from archer.distributed import Ranks
from archer.errors import RunFolderError
from archer.system import write_aside
from archer.trainer.backend import TrainBackend
from archer.trainer.lora import has_adapter, merged, pairs, plain_name

OPTIMIZER = "optimizer"
COUNTS = "policy.json"
VALUE = "value"  # the kind of an adapter's own weights, beside AdamW's
SHARD_BYTES = 4 << 30


def whole_weights(model: PreTrainedModel, get: Callable[[Parameter], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight by its name on the hub, gathered by ``get``, with adapters merged."""
    adapters = pairs(model)
    for inner, parameter in model.named_parameters():
        name = plain_name(inner)
        if name is None:
            continue
        tensor = get(parameter)
        if parameter in adapters:
            low, high, scale = adapters[parameter]
            tensor = merged(tensor, get(low), get(high), scale)
        # Some models hold in one tensor what the hub stores apart (a layer's experts).
        yield from revert_weight_conversion(model, {name: tensor}).items()
    yield from kept_buffers(model)


def kept_buffers(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that a saved model includes."""
    saved = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def write_policy(folder: Path, backend: TrainBackend, counts: Mapping[str, int], ranks: Ranks) -> None:
    """Write ``folder``; see :meth:`archer.trainer.Trainer.write`."""
    model = backend.model
    whole: dict[str, Tensor] = {}
    for name, tensor in own_weights(backend):
        if ranks.main:
            whole[name] = tensor.cpu()
    faults: list[Exception] = []
    if ranks.main:
        attempt(faults, lambda: model.save_pretrained(folder, state_dict=whole))
        attempt(faults, (folder / OPTIMIZER).mkdir)
        attempt(faults, lambda: write_aside(folder / COUNTS, json.dumps(counts)))
    for number, shard in enumerate(shards(training_state(backend, ranks.main))):
        path = folder / OPTIMIZER / f"{number:05d}.safetensors"
        if ranks.main and not faults:
            attempt(faults, partial(save_file, shard, path))
    if faults:
        raise faults[0]


def attempt(faults: list[Exception], write: Callable[[], None]) -> None:
    """Call ``write`` unless one failed before; keep the error, as the other ranks still contribute tensors."""
    if faults:
        return
    try:
        write()
    except Exception as error:  # the caller raises it again
        faults.append(error)


def own_weights(backend: TrainBackend) -> Iterator[tuple[str, Tensor]]:
    """Yield the float32 weights by the model's own names, which ``save_pretrained`` converts to the hub's."""
    model = backend.model
    adapters = pairs(model)
    for inner, parameter in model.named_parameters():
        name = plain_name(inner)
        if name is None:
            continue
        tensor = backend.master_param(parameter)
        if parameter in adapters:
            low, high, scale = adapters[parameter]
            tensor = merged(tensor, backend.master_param(low), backend.master_param(high), scale)
        yield name, tensor
    yield from kept_buffers(model)


def training_state(backend: TrainBackend, keep: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield optimizer state and adapter weights, on the CPU; empty tensors unless ``keep``."""
    model = backend.model
    adapter = has_adapter(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = dict(backend.optimizer_state(parameter))
        if adapter:
            state[VALUE] = backend.master_param(parameter)
        for kind, tensor in state.items():
            yield f"{name}|{kind}", tensor.cpu().contiguous() if keep else torch.empty(0)


def shards(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Collect tensors into dicts of about :data:`SHARD_BYTES`."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        shard[name] = tensor
        size += tensor.nbytes
        if size >= SHARD_BYTES:
            yield shard
            shard, size = {}, 0
    if shard:
        yield shard


def read_policy(folder: Path, backend: TrainBackend) -> dict[str, int]:
    """Load ``folder`` into model and optimizer; return the counts. Raises RunFolderError if it does not fit."""
    counts: dict[str, int] = json.loads((folder / COUNTS).read_text())
    with ExitStack() as stack:
        state = opened(sorted((folder / OPTIMIZER).glob("*.safetensors")), stack)
        if has_adapter(backend.model):
            read_adapter(folder, backend, state)
        else:
            read_weights(folder, backend, opened(sorted(folder.glob("*.safetensors")), stack))
        for name, parameter in backend.model.named_parameters():
            kinds = [kind for kind in ("exp_avg", "exp_avg_sq", "step") if f"{name}|{kind}" in state]
            if kinds and parameter.requires_grad:
                backend.set_optimizer_state(parameter, {kind: state[f"{name}|{kind}"]() for kind in kinds})
    return counts


def opened(paths: list[Path], stack: ExitStack) -> dict[str, Callable[[], Tensor]]:
    """Return functions that read the tensors of safetensors files, by name."""
    readers: dict[str, Callable[[], Tensor]] = {}
    for path in paths:
        file: Any = stack.enter_context(safe_open(path, framework="pt"))
        readers.update({name: partial(file.get_tensor, name) for name in file.keys()})  # noqa: SIM118
    return readers


def read_adapter(folder: Path, backend: TrainBackend, state: Mapping[str, Callable[[], Tensor]]) -> None:
    """Load the adapter's weights into the model, whose base weights come from the recipe. Raises RunFolderError."""
    own = {name: parameter for name, parameter in backend.model.named_parameters() if parameter.requires_grad}
    fit(folder, {f"{name}|{VALUE}" for name in own}, {name for name in state if name.endswith(f"|{VALUE}")})
    for name, parameter in own.items():
        put(folder, backend, name, parameter, state[f"{name}|{VALUE}"]())


def read_weights(folder: Path, backend: TrainBackend, weights: Mapping[str, Callable[[], Tensor]]) -> None:
    """Load the weights into the model. Raises RunFolderError if they do not fit."""
    own, buffers = dict(backend.model.named_parameters()), dict(kept_buffers(backend.model))
    if not own.keys() <= weights.keys():  # the hub's names may differ from the model's
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        names = loaded.keys() & (own.keys() | buffers.keys())  # without the second names of tied weights
        weights = {name: partial(loaded.__getitem__, name) for name in names}
    fit(folder, own.keys() | buffers.keys(), weights.keys())
    for name, parameter in own.items():
        put(folder, backend, name, parameter, weights[name]())
    for name, buffer in buffers.items():
        buffer.copy_(weights[name]())


def fit(folder: Path, wanted: Set[str], there: Set[str]) -> None:
    """Raise RunFolderError unless the names on disk are those of the model."""
    if wanted != there:
        missing, unexpected = sorted(wanted - there)[:4], sorted(there - wanted)[:4]
        raise RunFolderError(
            f"{folder}: weights do not fit the model: missing {missing}, unexpected {unexpected}; choose another --out"
        )


def put(folder: Path, backend: TrainBackend, name: str, parameter: Parameter, value: Tensor) -> None:
    """Set a parameter. Raises RunFolderError for another shape."""
    try:
        backend.set_param(parameter, value)
    except ValueError as error:
        raise RunFolderError(f"{folder}: {name}: {error}; choose another --out") from error
