"""A policy as the harness asks it: from memory, or in vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tspin.errors import InputError
from tspin.harness.quiet import quiet
from tspin.tokens.prompts import PromptTemplate

__all__ = ["end_vllm", "policy_model", "vllm_model"]


def policy_model(
    policy: Any,
    tokenizer: Any,
    *,
    chat: PromptTemplate | None = None,
    ends: Sequence[int],
    max_length: int | None,
    batch_size: int,
) -> Any:
    """A policy in memory, base with adapter included, as the harness asks it.

    Args:
        policy: From `tspin.models.policy.load_policy`.
        tokenizer: Its own copy; the harness sets its padding.
        chat: Renders what is asked; None asks without a chat template.
        ends: Tokens that end an answer; the policy is told of them.
        max_length: The model's context, in tokens; None has no limit.
        batch_size: Sequences a forward pass.
    """
    from lm_eval.models.huggingface import HFLM

    policy.generation_config.eos_token_id = list(ends)
    with quiet():
        model = HFLM(
            pretrained=policy,
            tokenizer=tokenizer,
            max_length=max_length,
            batch_size=batch_size,
        )
    return _asked_through(model, chat)


def vllm_model(
    base: str,
    *,
    adapter: str | None,
    chat: PromptTemplate | None = None,
    trust_remote_code: bool,
    **arguments: Any,
) -> Any:
    """A model folder in vLLM, through the harness's own backend.

    Args:
        base: Folder of full weights.
        adapter: Folder of a LoRA adapter on them.
        chat: As of `policy_model`.
        trust_remote_code: Whether Python files of the model may run.
        arguments: vLLM's own, such as `gpu_memory_utilization`.

    Raises:
        InputError: vLLM refuses an argument.
    """
    from lm_eval.api.registry import get_model

    try:
        model = get_model("vllm")(
            pretrained=base,
            lora_local_path=adapter,
            tokenizer=adapter or base,
            trust_remote_code=trust_remote_code,
            batch_size="auto",
            **arguments,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"evaluate.harness.vllm_args: vLLM refuses them: {error}") from error
    return _asked_through(model, chat)


def _asked_through(model: Any, chat: PromptTemplate | None) -> Any:
    """Let the harness ask with the very prompts that the policy was trained on.

    Its own rendering drops a system turn that a template refuses, and knows nothing of
    `tspin.tokens.border`.
    """
    if chat is None:
        return model

    def rendered(chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if add_generation_prompt:
            return chat.render_turns(chat_history)
        # The last turn is the beginning of an answer, which the model goes on with.
        *asked, begun = chat_history
        return chat.render_turns(asked) + chat.lead + begun["content"]

    model.apply_chat_template = rendered
    if chat.chat is not None:
        model.tokenizer.chat_template = chat.chat.template.source  # The harness notes it down.
    return model


def end_vllm(model: Any) -> None:
    """End the processes of a `vllm_model`, which can be asked nothing afterwards."""
    model.model.llm_engine.engine_core.shutdown()
