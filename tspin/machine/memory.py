r"""How much memory one training process needs at its peak, estimated before it starts.

The symbols: P parameters, A those that are trained (P, or the adapter's), s bytes of a number in
the forward pass (2 under bfloat16 autocast, else 4), k responses a triplet (1 sft, 3 with history,
else 2), N tokens a forward pass (system.tokens_per_device, but no more than a process's share of a
step can have and no less than one triplet of k * max_length, the most it can be), h, i, a widths
of the model, its feed-forward block and its attention heads together, L layers, C positions a chunk
of the output head, V vocabulary. Where weights are sharded: G processes that share one copy, l
parameters of the largest layer and e of the embedding, which are gathered for their turn, r of the
root, which stays gathered (norm and output head, and an embedding tied to it).

| part | bytes |
| --- | --- |
| weights | 4 P; with LoRA s P + 4 A; with nf4 0.516 for s in its linear layers; sdft 4 A more |
| gradients | 4 A |
| optimizer | 4 A (RMSProp: mean square), 8 A (AdamW: two moments) |
| ... sharded | a G-th of these three, sdft with LoRA twice s P; with LoRA 4 A more: gradients wait
  for a step's last pass |
| ... offloaded | 0: they are in the host's memory (`tspin.machine.host`) |
| casts | 2 P where float32 weights are computed with in bfloat16 and not sharded, else 0; with nf4
  2 for each number of the largest tensor, which is made of its four bits for its turn |
| exchange | 4 A with several processes, unsharded: the buckets that gradients are summed in |
| root | sharded: s r, gathered; without LoRA s r more, its gradients; sdft s r more (ends, too) |
| gathered | sharded: 2 s l (a layer in its turn, the next one on its way); without LoRA (s + 4) l
  more, the layer's gradients, which are summed over the processes in float32 |
| ends | sharded, before and after all activations: 2 s (r + e) as these are gathered; without LoRA
  at least 2 s r + (2 s + 4) l + s e, 2 s r + (2 s + 4) e, and 4 s r + 4 l (tied: two gradients of
  the root and their sum) |
| activations | N L (16 h + s (5 h + 4 a + 4 i)): inner values kept for the backward |
| ... sdpa, padded rows | N L s max_length more: the mask of each layer |
| ... eager | N L heads max_length (4, under bfloat16 6) more: the attention matrix |
| ... LoRA dropout | N L (1 + s) (6 h + i) more: a mask, and each adapted layer's own input |
| ... LoRA in bfloat16 | unsharded, without nf4: N L s (6 h + i) more at least: peft casts each
  layer's input to the adapter's float32, and autocast that back to a copy of its own |
| ... checkpointed | N 4 h L, with LoRA N s h L |
| recomputed | checkpointed: the inner values of one layer, as above, and N s i of gradients; where
  inputs are cast N (s + 4) i more |
| head | C V (4 + s) for logits, 4 V of C positions or 256 MiB, which are kept, and N s h (hidden);
  sdft C V (24 + s) more |
| step | 4 A on a GPU (torch updates all tensors at once), 8 times the largest tensor on a CPU;
  sharded, a G-th |
| overhead | on a GPU 1 GiB (context) and a twentieth of the rest (fragments); on a CPU 0.4 GiB
  (Python, torch) and as much again as activations and recomputed: malloc keeps their blocks |

Peak = weights + gradients + optimizer + exchange + overhead
       + max(casts + root + activations + max(head, recomputed + gathered), ends, step).

Why: weights that are trained are float32 (`policy.load_policy`), normalisation keeps float32
values (16 h), queries, keys, values and what attention makes of them are kept (4 a), logits exist
for one chunk only (`logprobs.response_logps`), no reference model is loaded. Without overhead the
sum was 1.0 to 1.3 times the peak measured on a CPU (test_memory_measured.py measures some), sharded
1.0 to 1.4 times what torch's FSDPMemTracker counts (test_memory_simulated.py). Other rows on GPUs
are not measured. Mixtures of experts are counted by their active experts, roughly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from tspin.config import SUPERVISED, RunConfig
from tspin.forward.logprobs import KEPT
from tspin.models.shape import ModelShape

__all__ = ["Hardware", "MemoryEstimate", "estimate_memory", "largest_triplet", "sharded"]

_FLOAT32 = 4
_NF4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)
"""Bytes a number: four bits, a scale of one byte for each 64 of them, and a float32 for each 256
scales (arXiv 2305.14314, section 3)."""


@dataclass(frozen=True)
class Hardware:
    """What training would run on."""

    gpu: bool
    bfloat16: bool
    """Whether the forward pass computes in bfloat16 (`tspin.models.device.resolve_dtype`)."""
    processes: int
    """Training processes on this node."""
    nodes: int = 1
    """Each with as many processes."""
    shards: int = 1
    """Processes that share one copy of the weights; 1 where each has all of them."""
    offloaded: bool = False
    """Whether the shards are in the host's memory between their uses."""

    @property
    def world(self) -> int:
        """Training processes on all nodes."""
        return self.processes * self.nodes

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
    root: int
    gathered: int
    ends: int
    activations: int
    recomputed: int
    head: int
    step: int
    overhead: int

    @property
    def total(self) -> int:
        """The peak: what stays, the largest of what comes and goes, overhead."""
        # The head's backward pass is over when the first layer is gathered and computed again.
        turn = max(self.head, self.recomputed + self.gathered)
        middle = self.casts + self.root + self.activations + turn
        passing = max(middle, self.ends, self.step)
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
    trained = shape.adapter_parameters or shape.parameters
    tokens = _tokens(config, hardware)
    parts = {
        **_states(shape, config, hardware),
        "exchange": _FLOAT32 * trained if hardware.world > 1 and hardware.shards == 1 else 0,
        "casts": _casts(shape, config, hardware),
        **_gathered(shape, config, hardware),
        **_activations(shape, config, hardware, tokens),
        "head": _head(shape, config, tokens, s),
        "step": _step(shape, hardware),
    }
    bare = MemoryEstimate(**parts, overhead=0)
    on_cpu = int(0.4 * 2**30) + bare.activations + bare.recomputed
    overhead = 2**30 + bare.total // 20 if hardware.gpu else on_cpu
    return MemoryEstimate(**parts, overhead=overhead)


def sharded(shape: ModelShape, config: RunConfig, hardware: Hardware, memory: int) -> Hardware:
    """How a training would share out its weights here, by `system.shard`.

    `auto` shards where several processes train and one of them would need more than its memory
    without. Equal arguments give an equal answer, so processes that hand in the same memory (of
    the fullest one: on a CPU it differs from moment to moment) agree without a word.

    Args:
        shape: The model's sizes.
        config: Sections train, prompt and system.
        hardware: Where it would run; how it is sharded there is not read.
        memory: Bytes that one process has: all of a GPU's, or its share of what the host has
            available.

    Returns:
        The hardware, with the number of processes over which weights are sharded.
    """
    system = config.system
    whole = replace(hardware, shards=1, offloaded=False)
    group = hardware.processes if system.shard_over == "node" else hardware.world
    if system.shard == "off" or group == 1:
        return whole
    if system.shard == "auto":
        shardable = shape.layer > 0 and config.model.quantize == "none"
        if not shardable or estimate_memory(shape, config, whole).total <= memory:
            return whole
    # On a CPU the host's memory is all there is.
    return replace(hardware, shards=group, offloaded=system.offload and hardware.gpu)


def _states(shape: ModelShape, config: RunConfig, hardware: Hardware) -> dict[str, int]:
    """Weights and what each of them needs in training."""
    if hardware.offloaded:
        return {"weights": 0, "gradients": 0, "optimizer": 0}
    trained = shape.adapter_parameters or shape.parameters
    frozen = shape.parameters if shape.adapter_parameters else 0
    quantized = shape.linear if config.model.quantize == "nf4" else 0
    weights = hardware.number_bytes * (frozen - quantized) + int(_NF4 * quantized)
    moments, taught = 1 + (config.train.optimizer == "adamw"), config.train.method == "sdft"
    weights *= 1 + (taught and hardware.shards > 1)  # A teacher's shards are its own.
    # Gradients are summed over the processes in each pass, which keeps none of them whole; those of
    # an adapter, which are small, once a step (`tspin.train.arguments`).
    waiting = _FLOAT32 * trained if hardware.shards > 1 and shape.adapter_parameters > 0 else 0
    return {
        "weights": (weights + (1 + taught) * _FLOAT32 * trained) // hardware.shards,
        "gradients": _FLOAT32 * trained // hardware.shards + waiting,
        "optimizer": moments * _FLOAT32 * trained // hardware.shards,
    }


def _casts(shape: ModelShape, config: RunConfig, hardware: Hardware) -> int:
    if config.model.quantize == "nf4":
        return 2 * shape.largest
    whole = hardware.bfloat16 and hardware.shards == 1 and not shape.adapter_parameters
    return 2 * shape.parameters if whole else 0


def _gathered(shape: ModelShape, config: RunConfig, hardware: Hardware) -> dict[str, int]:
    """What stays gathered, what is in its turn, and both where there are no activations."""
    if hardware.shards == 1:
        return {"root": 0, "gathered": 0, "ends": 0}
    s, root, layer, embedding = hardware.number_bytes, shape.root, shape.layer, shape.embedding
    start, taught = 2 * s * (root + embedding), s * root * (config.train.method == "sdft")
    if shape.adapter_parameters:
        return {"root": s * root + taught, "gathered": 2 * s * layer, "ends": start + taught}
    summed = 2 * s + _FLOAT32
    first = 2 * s * root + max(summed * layer + s * embedding, summed * embedding)
    tied = 4 * s * root + _FLOAT32 * layer
    return {
        "root": 2 * s * root + taught,
        "gathered": (summed + s) * layer,
        "ends": max(start, first, tied) + taught,
    }


def _step(shape: ModelShape, hardware: Hardware) -> int:
    if hardware.offloaded:
        return 0
    if not hardware.gpu:
        return 8 * shape.largest // hardware.shards
    return _FLOAT32 * (shape.adapter_parameters or shape.parameters) // hardware.shards


def responses_per_triplet(config: RunConfig) -> int:
    """Sequences a triplet in the iteration that has most of them."""
    if config.train.method in SUPERVISED:
        return 1
    return 1 + config.generate.samples + len(config.train.history_at(config.iterations - 1))


def largest_triplet(config: RunConfig) -> int:
    """Tokens that one triplet can have at most: nearly all of max_length in each response."""
    return responses_per_triplet(config) * config.prompt.max_length


def _tokens(config: RunConfig, hardware: Hardware) -> int:
    """Tokens of the largest forward pass."""
    largest = largest_triplet(config)
    share = math.ceil(config.train.global_batch_size / hardware.world) * largest
    return max(min(config.system.tokens_per_device, share), largest)


def _activations(
    shape: ModelShape, config: RunConfig, hardware: Hardware, tokens: int
) -> dict[str, int]:
    s = hardware.number_bytes
    length = config.prompt.max_length
    inner = 4 * _FLOAT32 * shape.hidden
    inner += s * (5 * shape.hidden + 4 * shape.attention_width + 4 * shape.intermediate)
    if shape.attention == "sdpa":
        inner += s * length
    if shape.attention == "eager":
        inner += shape.heads * length * (_FLOAT32 + (s if s < _FLOAT32 else 0))
    inputs = 6 * shape.hidden + shape.intermediate
    lora = config.train.lora
    dropout = lora is not None and lora.dropout > 0
    whole = hardware.shards == 1 and config.model.quantize == "none"
    cast = shape.adapter_parameters > 0 and hardware.bfloat16 and whole
    inner += (s * inputs if dropout or cast else 0) + (inputs if dropout else 0)
    if not config.system.gradient_checkpointing:
        return {"activations": tokens * shape.layers * inner, "recomputed": 0}
    # Frozen weights begin a stream between the layers of their own precision, others of float32.
    stream = s if shape.adapter_parameters else _FLOAT32
    gradient = (s + (s + _FLOAT32 if cast else 0)) * shape.intermediate
    return {
        "activations": tokens * shape.layers * stream * shape.hidden,
        "recomputed": tokens * (inner + gradient),
    }


def _head(shape: ModelShape, config: RunConfig, tokens: int, s: int) -> int:
    chunk = min(config.system.logps_chunk_size, tokens)
    kept = max(chunk, min(tokens, KEPT // (_FLOAT32 * shape.vocabulary)))
    logits = shape.vocabulary * (chunk * (_FLOAT32 + s) + kept * _FLOAT32)
    taught = shape.vocabulary * chunk * (s + 6 * _FLOAT32) if config.train.method == "sdft" else 0
    return logits + taught + tokens * s * shape.hidden
