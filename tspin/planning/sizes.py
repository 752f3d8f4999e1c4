"""The sizes of the model that decide what a run takes; no weights are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tspin.config import RunConfig
from tspin.forward.flops import PassFlops
from tspin.models.folder import find_model
from tspin.models.shape import ModelShape, empty_model, model_shape

__all__ = ["Sizes"]

_FLOAT32 = 4


@dataclass(frozen=True)
class Sizes:
    """Of the initial policy, with the adapter that training adds, if it adds one."""

    shape: ModelShape
    flops: PassFlops
    cached: int
    """Numbers that a key-value cache keeps of one token, over all layers."""
    files: int
    """Bytes that stand beside the weights in a model's folder: tokenizer, configuration."""

    @classmethod
    def of(cls, config: RunConfig) -> Sizes:
        """Read the model's configuration.

        Raises:
            InputError: there is no such model, or transformers does not know it.
        """
        shape = model_shape(config.model, config.train.lora)
        model = empty_model(config.model)
        trained = shape.adapter_parameters == 0
        folder = find_model(config.model.path, config.model, weights=False).path
        weights = (".safetensors", ".bin", ".gguf", ".pth", ".pt")
        return cls(
            shape=shape,
            flops=replace(PassFlops.of_model(model), trained=trained),
            cached=_cached(model.config),
            files=sum(
                path.stat().st_size
                for path in folder.glob("*")
                if path.is_file() and path.suffix not in weights
            ),
        )

    @property
    def packed(self) -> bool:
        """Whether a prompt is computed once for all its responses."""
        return self.shape.attention == "tree"

    @property
    def trained_parameters(self) -> int:
        """Of the adapter, or all."""
        return self.shape.adapter_parameters or self.shape.parameters

    @property
    def model_bytes(self) -> int:
        """One trained policy as it is kept: float32 weights, or those of the adapter alone."""
        return _FLOAT32 * self.trained_parameters + self.files

    def checkpoint_bytes(self, optimizer: str) -> int:
        """One checkpoint: what is trained, and the optimiser's state of it."""
        states = 2 if optimizer == "adamw" else 1
        return _FLOAT32 * (1 + states) * self.trained_parameters + self.files

    def passes(
        self, prompt: int, responses: list[int], *, backward: bool = False
    ) -> tuple[int, float]:
        """Tokens and operations of a prompt with responses to it, packed or in rows of their own.

        Args:
            prompt: Tokens.
            responses: Tokens of each, end token included.
            backward: Whether gradients are computed.
        """
        if self.packed:
            flops = self.flops.of_lengths(prompt, responses, backward=backward)
            return prompt + sum(responses), flops
        rows = [self.flops.of_lengths(prompt, [one], backward=backward) for one in responses]
        return sum(prompt + one for one in responses), sum(rows)


def _cached(config: Any) -> int:
    text = config.get_text_config()
    heads: int = text.num_attention_heads
    width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    kept = int(getattr(text, "num_key_value_heads", None) or heads)
    return 2 * int(text.num_hidden_layers) * kept * width
