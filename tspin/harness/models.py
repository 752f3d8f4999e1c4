"""A policy as the harness asks it: from memory, or in vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tspin.errors import InputError
from tspin.harness.quiet import quiet
from tspin.tokens.prompts import CHAT_ARGUMENTS

__all__ = ["end_vllm", "policy_model", "vllm_model"]


def policy_model(
    policy: Any,
    tokenizer: Any,
    *,
    ends: Sequence[int],
    max_length: int | None,
    batch_size: int,
) -> Any:
    """A policy in memory, base with adapter included, as the harness asks it.

    Args:
        policy: From `tspin.models.policy.load_policy`.
        tokenizer: Its own copy; the harness sets its padding.
        ends: Tokens that end an answer; the policy is told of them.
        max_length: The model's context, in tokens; None has no limit.
        batch_size: Sequences a forward pass.
    """
    from lm_eval.models.huggingface import HFLM

    policy.generation_config.eos_token_id = list(ends)
    with quiet():
        return HFLM(
            pretrained=policy,
            tokenizer=tokenizer,
            max_length=max_length,
            batch_size=batch_size,
            chat_template_args=dict(CHAT_ARGUMENTS),
        )


def vllm_model(base: str, *, adapter: str | None, trust_remote_code: bool, **arguments: Any) -> Any:
    """A model folder in vLLM, through the harness's own backend.

    Args:
        base: Folder of full weights.
        adapter: Folder of a LoRA adapter on them.
        trust_remote_code: Whether Python files of the model may run.
        arguments: vLLM's own, such as `gpu_memory_utilization`.

    Raises:
        InputError: vLLM refuses an argument.
    """
    from lm_eval.api.registry import get_model

    try:
        return get_model("vllm")(
            pretrained=base,
            lora_local_path=adapter,
            tokenizer=adapter or base,
            trust_remote_code=trust_remote_code,
            batch_size="auto",
            chat_template_args=dict(CHAT_ARGUMENTS),
            **arguments,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"evaluate.harness.vllm_args: vLLM refuses them: {error}") from error


def end_vllm(model: Any) -> None:
    """End the processes of a `vllm_model`, which can be asked nothing afterwards."""
    model.model.llm_engine.engine_core.shutdown()
