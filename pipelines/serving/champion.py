"""A champion as a server needs it: what its registry says of it, the weights left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tspin.errors import InputError
from tspin.models.adapter import check_lora, served_rank
from tspin.registry import Record, Registry
from tspin_pipelines.serving.start_token import unwritten_start

__all__ = ["Adapter", "Champion", "champion_before", "read_champion"]

_TEMPLATE = "chat_template.jinja"
_GENERATION = "generation_config.json"
_UNMEASURED = (
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_p",
    "max_new_tokens",
)
"""Settings of a generation_config.json that vLLM applies to every request, greedy ones too, and
that no evaluation applies (vllm/config/model.py, `get_diff_sampling_param`)."""


@dataclass(frozen=True)
class Adapter:
    """What an adapter says of itself."""

    base: str
    """Where it was trained: a name on the Hub, or a path of that machine."""
    revision: str | None
    """Of a base on the Hub."""
    rank: int
    """vLLM's `max_lora_rank`."""


@dataclass(frozen=True)
class Champion:
    """One record of a registry, with what decides how its model is served."""

    registry: str
    record: Record
    adapter: Adapter | None
    """None of full weights."""
    template: str | None
    """Its file with a chat template; None where it has no such file."""
    chats: bool
    """Whether it has a chat template at all."""
    generation: Mapping[str, Any] | None
    """Its generation_config.json; None where it has none."""
    unwritten_start: str | None = None
    """A token that training put before every prompt and its chat template does not write."""

    @property
    def short(self) -> str:
        """The beginning of the content hash, which fits into names and labels."""
        return self.record.model[:12]

    @property
    def uri(self) -> str:
        """Of the model's folder, which never changes."""
        return f"{self.registry}/models/{self.record.model}"

    @property
    def sampling(self) -> dict[str, Any]:
        """What is served instead of the model's own defaults, so that it is what was measured.

        A temperature was fitted to the whole distribution, which top_p and top_k would cut. None
        takes a setting away.
        """
        own = self.generation or {}
        served: dict[str, Any] = {name: None for name in _UNMEASURED if own.get(name) is not None}
        if fitted := self.record.metrics.get("temperature/fitted"):
            served |= {"temperature": fitted.value}
            served |= {name: None for name in ("top_p", "top_k") if own.get(name) is not None}
        return served

    @property
    def dtype(self) -> str | None:
        """The precision that it was measured in; None where nothing says so."""
        return self.record.numerics.get("dtype")

    @property
    def in_four_bits(self) -> bool:
        """Whether it was measured on a base in four bits."""
        return self.record.numerics.get("quantize") not in (None, "none")


def read_champion(registry: Registry, number: int | None = None) -> Champion:
    """What a registry says of a champion; its weights are not read.

    Args:
        registry: Where it stands.
        number: Of its record; None is today's.

    Raises:
        InputError: there is none, or it is no model that vLLM serves.
        TspinError: what stands there is not what was put in, or cannot be reached.
    """
    return _described(registry, registry.find(number=number))


def champion_before(registry: Registry, champion: Champion) -> Champion:
    """The last champion with another model, which a canary is measured against.

    Args:
        registry: Where both stand.
        champion: The one that came after.

    Raises:
        InputError: there is none, or it is no model that vLLM serves.
    """
    record = champion.record
    earlier = [r for r in registry.records() if r.number < record.number]
    others = [r for r in earlier if r.model != record.model]
    if not others:
        raise InputError(
            f"{registry.uri}: champion {record.number} has no champion before it to share requests "
            "with; leave out --canary"
        )
    return _described(registry, others[-1])


def _described(registry: Registry, record: Record) -> Champion:
    place = f"{registry.uri}/models/{record.model}"
    adapter = None
    if (values := _object(registry, record, "adapter_config.json")) is not None:
        check_lora(values, place)
        rank = served_rank(values, place, "train one of a lower rank")
        named, revision = values.get("base_model_name_or_path"), values.get("revision")
        adapter = Adapter(str(named or ""), revision, rank)
    alone = registry.read(record, _TEMPLATE)
    settings = _object(registry, record, "tokenizer_config.json") or {}
    template = settings.get("chat_template") if alone is None else alone.decode()
    tokenizer = _object(registry, record, "tokenizer.json") or {}
    return Champion(
        registry=registry.uri,
        record=record,
        adapter=adapter,
        template=None if alone is None else _TEMPLATE,
        chats=bool(template),
        generation=_object(registry, record, _GENERATION),
        # Older files have several templates by name; which one a request takes is not known here.
        unwritten_start=unwritten_start(tokenizer, template) if isinstance(template, str) else None,
    )


def _object(registry: Registry, record: Record, name: str) -> dict[str, Any] | None:
    content = registry.read(record, name)
    if content is None:
        return None
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{registry.uri}/models/{record.model}/{name}: not valid JSON: {error}"
        ) from None
    return dict(values)
