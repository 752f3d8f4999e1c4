"""Loading and saving policies: full weights or LoRA adapters, always safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import orjson
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tspin.config import LoraConfig, ModelConfig
from tspin.errors import InputError
from tspin.files import atomic_folder, write_json
from tspin.models.adapter import check_lora
from tspin.models.device import resolve_device, resolve_dtype
from tspin.models.folder import ADAPTER_CONFIG, ModelFolder, adapter_vocabulary, find_model
from tspin.models.generation import write_end_ids
from tspin.models.pretrained import empty_weights, load_tokenizer, load_weights, without_bars
from tspin.models.quantization import check_quantization, without_kernel_warning

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = [
    "Policy",
    "load_policy",
    "load_tokenizer",
    "policy_identity",
    "resolve_device",
    "resolve_dtype",
    "save_policy",
    "saves_adapter_only",
]

Policy: TypeAlias = "PreTrainedModel | PeftModel"

_ADAPTER = "default"
_RESIZED = "embeddings_resized"
"""Attribute of a policy whose adapter has embeddings for more tokens, or fewer, than its base."""


def policy_identity(model: str | ModelFolder, config: ModelConfig) -> str:
    """What a policy is, wherever it stands.

    A folder's content hash, `hub:name@commit` for a Hub model; for a LoRA adapter its own
    identity, a plus sign, and the identity of its base.

    Raises:
        InputError: there is no such model (see `tspin.models.folder.find_model`).
    """
    return find_model(model, config, weights=False).identity(config)


def load_policy(
    model: str | ModelFolder,
    config: ModelConfig,
    *,
    device: torch.device,
    trainable: bool,
    lora: LoraConfig | None = None,
    seed: int = 0,
    empty: bool = False,
) -> Policy:
    """Load a policy: of an adapter's folder base and adapter, which training goes on with.

    Full weights get a new adapter if `lora` is given; at first it changes nothing.

    Args:
        model: A folder, or a name on the Hub.
        config: dtype, attention implementation, revision, trust.
        device: Where to.
        trainable: Training mode, gradients on all weights (of LoRA on the adapter's only), or none.
        lora: The adapter's shape; must agree with the one that a folder already has.
        seed: Of a new adapter's random half; the global random state is left alone.
        empty: Leave the parameters on the meta device, for `tspin.models.sharding` to fill.

    Returns:
        The model. Weights to be trained are float32 (a bfloat16 weight of 0.01 moves by no less
        than 2e-5, the papers' steps are 5e-7); others as `quantize` and `resolve_dtype` say.

    Raises:
        InputError: no such model, weights that are not there, damaged or quantised, or LoRA
            settings that do not fit.
    """
    folder = find_model(model, config)
    adapted = folder.is_adapter or lora is not None
    check_quantization(config, trains_all=(trains_all := trainable and not adapted))
    dtype = torch.float32 if trains_all else resolve_dtype(config, device)
    base_folder = folder.base(config) if folder.is_adapter else folder
    what = (base_folder, config, dtype)
    policy: Policy = (base := empty_weights(*what) if empty else load_weights(*what, device))
    if adapted and not trainable and not folder.is_adapter:
        raise InputError(f"model '{folder.path}': a new adapter is only made for training")
    with torch.device("meta") if empty else nullcontext():
        if folder.is_adapter:
            policy = _load_adapter(base, base_folder, folder, lora, trainable, empty=empty)
        elif lora is not None:
            policy = _new_adapter(base, base_folder, lora, seed)
    if not adapted:
        policy.requires_grad_(trainable)
    torch.nn.Module.to(policy, "meta" if empty else device)
    return policy.train(trainable)


def save_policy(
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    generation: dict[str, Any] | None = None,
    ends: Sequence[int] = (),
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Save a policy as a folder that loads by itself; it appears whole or not at all.

    Full weights as `save_pretrained` lays them out; for LoRA only the adapter, which names its
    base. Equal weights give equal bytes.

    Args:
        policy: Not wrapped for distributed training.
        tokenizer: Saved beside it.
        folder: Replaced if it exists.
        generation: The generation_config.json of the model that it was made from, which is written
            as it stands but for `ends`; None keeps what transformers knows of it.
        ends: The tokens that end a response, which whoever else loads the folder must stop at.
        state_dict: The whole weights, where `policy` holds only a shard of them.
    """
    with atomic_folder(folder) as temporary, without_bars():
        if isinstance(policy, PreTrainedModel):
            policy.save_pretrained(temporary, state_dict=state_dict)
        else:
            # Not "auto", which asks the Hub whether the vocabulary was resized.
            policy.save_pretrained(
                str(temporary),
                state_dict=state_dict,
                save_embedding_layers=getattr(policy, _RESIZED, False),
            )
            _settle_adapter_folder(temporary)
        write_end_ids(temporary, ends, generation)
        tokenizer.save_pretrained(temporary)


def saves_adapter_only(policy: Policy) -> bool:
    """Whether `save_policy` writes no weight that is not trained."""
    return not isinstance(policy, PreTrainedModel) and not getattr(policy, _RESIZED, False)


def _settle_adapter_folder(folder: Path) -> None:
    # peft writes a set in the order of this process's hashes, and a model card of placeholders.
    path = folder / ADAPTER_CONFIG
    values = orjson.loads(path.read_bytes())
    write_json(path, {k: sorted(v) if k == "target_modules" else v for k, v in values.items()})
    (folder / "README.md").unlink(missing_ok=True)


def _new_adapter(
    base: PreTrainedModel, base_folder: ModelFolder, lora: LoraConfig, seed: int
) -> PeftModel:
    with without_kernel_warning():
        import peft
    targets = lora.target_modules
    shape = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    base.name_or_path, commit = base_folder.reference
    # New adapters are drawn on the CPU, wherever the base is: peft moves them afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return cast("PeftModel", peft.get_peft_model(base, shape, revision=commit))
        except ValueError as error:
            raise InputError(f"train.lora.target_modules is {targets!r}: {error}") from None


def _load_adapter(
    base: PreTrainedModel,
    base_folder: ModelFolder,
    folder: ModelFolder,
    lora: LoraConfig | None,
    trainable: bool,
    *,
    empty: bool,
) -> PeftModel:
    with without_kernel_warning():
        import peft
    values = folder.adapter_config()
    check_lora(values, str(folder.path))
    _refuse_other_shape(folder, values, lora)
    base.name_or_path, commit = base_folder.reference
    rows = adapter_vocabulary(folder)
    embeddings = cast(torch.nn.Embedding, base.get_input_embeddings())
    resized = rows is not None and rows != embeddings.weight.shape[0]
    if resized:
        # Its own embeddings come with the adapter; what stands here until then does not matter.
        base.resize_token_embeddings(rows, mean_resizing=False)
    own = peft.LoraConfig.from_pretrained(str(folder.path))
    own.base_model_name_or_path, own.revision = base.name_or_path, commit
    own.inference_mode = not trainable
    policy = cast("PeftModel", peft.get_peft_model(base, own))
    setattr(policy, _RESIZED, resized)
    if empty:
        return policy
    try:
        result = policy.load_adapter(str(folder.path), _ADAPTER, is_trainable=trainable)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder.path}: does not fit {base.name_or_path}: {error}") from None
    if result.missing_keys:
        raise InputError(f"{folder.path}: its adapter lacks weights: {result.missing_keys[0]}")
    return policy


def _refuse_other_shape(
    folder: ModelFolder, values: dict[str, Any], lora: LoraConfig | None
) -> None:
    if lora is None:
        return
    for key, asked in (("r", lora.r), ("lora_alpha", lora.alpha)):
        if values.get(key) != asked:
            name = key.removeprefix("lora_")
            raise InputError(
                f"train.lora.{name} is {asked}, but the adapter in {folder.path} has "
                f"{values.get(key)}; training goes on with the same adapter"
            )
