r"""How much memory one training process needs at its peak, estimated before it starts.

The symbols: P parameters, A those that are trained (P, or the adapter's), s bytes of a number in
the forward pass (2 under bfloat16 autocast, else 4), k responses a triplet (1 sft, 3 with history,
else 2), N tokens a forward pass (system.tokens_per_device, but no more than a step can have and no
less than one triplet of k * max_length, the most it can be), h, i, a widths of the model, its
feed-forward block and its attention heads together, L layers, C positions a chunk of the output
head, V vocabulary.

| part | bytes |
| --- | --- |
| weights | 4 P; with LoRA s P + 4 A |
| gradients | 4 A |
| optimiser | 4 A (RMSProp: mean square), 8 A (AdamW: two moments) |
| casts | 2 P where float32 weights are computed with in bfloat16, else 0 |
| exchange | 4 A with several processes: the buckets that gradients are summed in |
| activations | N L (16 h + s (5 h + 4 a + 4 i)): inner values kept for the backward |
| ... sdpa, padded rows | N L s max_length more: the mask of each layer |
| ... eager | N L heads max_length (4, under bfloat16 6) more: the attention matrix |
| ... LoRA dropout | N L (1 + s) (6 h + i) more: each adapted layer's own input |
| ... checkpointed | N 4 h L, and the inner values of one layer as above |
| head | C V (8 + s), and N s h for the hidden states |
| step | 4 A on a GPU (torch updates all tensors at once), 8 times the largest tensor on a CPU |
| overhead | on a GPU 1 GiB (context) and a twentieth of the rest (fragments); on a CPU 0.4 GiB
  (Python, torch) and as much again as the activations: malloc keeps the blocks they leave |

Peak = weights + gradients + optimiser + exchange + overhead
       + max(casts + activations + head, step).

Why: weights that are trained are float32 (`policy.load_policy`), normalisation keeps float32
values (16 h), queries, keys, values and what attention makes of them are kept (4 a), logits exist
for one chunk only (`logprobs.response_logps`), no reference model is loaded. Without the overhead
the sum was 1.0 to 1.3 times the peak measured on a CPU, for Llama, Qwen and GPT-2 layers, full and
LoRA, with and without checkpointing, in float32 and bfloat16;
tests/integration/test_memory_measured.py measures some of these. The rows about GPUs follow from
the same reasoning and are not measured. Mixtures of experts are counted by their active experts,
roughly.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from tspin.config import RunConfig
from tspin.models.shape import ModelShape

__all__ = ["Hardware", "MemoryEstimate", "estimate_memory", "largest_triplet"]

_FLOAT32 = 4


@dataclass(frozen=True)
class Hardware:
    """What training would run on."""

    gpu: bool
    bfloat16: bool
    """Whether the forward pass computes in bfloat16 (`tspin.models.device.resolve_dtype`)."""
    processes: int
    """Training processes on this node."""

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in the forward pass."""
        return 2 if self.bfloat16 else _FLOAT32


@dataclass(frozen=True)
class MemoryEstimate:
    """The parts of one process's peak, in bytes, as the table above names them."""

    weights: int
    gradients: int
    optimizer: int
    exchange: int
    casts: int
    activations: int
    head: int
    step: int
    overhead: int

    @property
    def total(self) -> int:
        """The peak: what stays, the larger of forward-backward and optimiser step, overhead."""
        passing = max(self.casts + self.activations + self.head, self.step)
        return self.stays + passing + self.overhead

    @property
    def stays(self) -> int:
        """What no smaller batch makes smaller: weights and what each of them needs in training."""
        return self.weights + self.gradients + self.optimizer + self.exchange

    def parts(self) -> dict[str, int]:
        """Name to bytes, largest first."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return dict(sorted(values.items(), key=lambda part: -part[1]))


def estimate_memory(shape: ModelShape, config: RunConfig, hardware: Hardware) -> MemoryEstimate:
    """The peak of one training process in the iteration that needs most.

    Args:
        shape: The model's sizes.
        config: Sections train, prompt and system.
        hardware: Where it would run.
    """
    s = hardware.number_bytes
    adapted = shape.adapter_parameters > 0
    trained = shape.adapter_parameters if adapted else shape.parameters
    weights = s * shape.parameters + _FLOAT32 * trained if adapted else _FLOAT32 * trained
    states = 2 if config.train.optimizer == "adamw" else 1
    tokens = _tokens(config)
    casts = 2 * shape.parameters if hardware.bfloat16 and not adapted else 0
    step = _FLOAT32 * trained if hardware.gpu else 8 * shape.largest
    parts = {
        "weights": weights,
        "gradients": _FLOAT32 * trained,
        "optimizer": states * _FLOAT32 * trained,
        "exchange": _FLOAT32 * trained if hardware.processes > 1 else 0,
        "casts": casts,
        "activations": _activations(shape, config, tokens, s),
        "head": _head(shape, config, tokens, s),
        "step": step,
    }
    bare = MemoryEstimate(**parts, overhead=0)
    on_cpu = int(0.4 * 2**30) + bare.activations
    overhead = 2**30 + bare.total // 20 if hardware.gpu else on_cpu
    return MemoryEstimate(**parts, overhead=overhead)


def responses_per_triplet(config: RunConfig) -> int:
    """Sequences a triplet in the iteration that has most of them."""
    if config.train.method == "sft":
        return 1
    return 3 if config.train.beta_at(config.iterations - 1) > 0 else 2


def largest_triplet(config: RunConfig) -> int:
    """Tokens that one triplet can have at most: nearly all of max_length in each response."""
    return responses_per_triplet(config) * config.prompt.max_length


def _tokens(config: RunConfig) -> int:
    """Tokens of the largest forward pass."""
    largest = largest_triplet(config)
    step = config.train.global_batch_size * largest
    return max(min(config.system.tokens_per_device, step), largest)


def _activations(shape: ModelShape, config: RunConfig, tokens: int, s: int) -> int:
    length = config.prompt.max_length
    inner = 4 * _FLOAT32 * shape.hidden
    inner += s * (5 * shape.hidden + 4 * shape.attention_width + 4 * shape.intermediate)
    if shape.attention == "sdpa":
        inner += s * length
    if shape.attention == "eager":
        inner += shape.heads * length * (_FLOAT32 + (s if s < _FLOAT32 else 0))
    lora = config.train.lora
    if lora is not None and lora.dropout:
        inner += (1 + s) * (6 * shape.hidden + shape.intermediate)
    if not config.system.gradient_checkpointing:
        return tokens * shape.layers * inner
    return tokens * (shape.layers * _FLOAT32 * shape.hidden + inner)


def _head(shape: ModelShape, config: RunConfig, tokens: int, s: int) -> int:
    chunk = min(config.system.logps_chunk_size, tokens)
    return chunk * shape.vocabulary * (2 * _FLOAT32 + s) + tokens * s * shape.hidden
