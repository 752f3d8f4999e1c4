"""A model's files on this disk: a folder as given, or a snapshot of the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.files import read_object
from tspin.records.manifest import content_hash
from tspin.store import fetch, is_remote

__all__ = ["ADAPTER_CONFIG", "ModelFolder", "adapter_vocabulary", "fetch_weights", "find_model"]

ADAPTER_CONFIG = "adapter_config.json"
_CONFIG = "config.json"
_METADATA = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = ("*.safetensors",)
_CODE = ("*.py",)
_EMBEDDING = re.compile(
    r"\.(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|lm_head|embed_out)\.(.+\.)?weight$"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class ModelFolder:
    """One model that can be loaded: full weights, or a LoRA adapter on a base."""

    path: Path
    hub: str | None = None
    """`name@commit` of a Hub model."""
    weights: bool = True
    """Whether the weights are here, too, and not only configuration and tokenizer."""

    @property
    def is_adapter(self) -> bool:
        """Whether the weights are a LoRA adapter, which needs its base."""
        return (self.path / ADAPTER_CONFIG).is_file()

    @property
    def reference(self) -> tuple[str, str | None]:
        """What another folder writes down to find this one: name or absolute path, and commit."""
        if self.hub is None:
            return str(self.path.resolve()), None
        name, _, commit = self.hub.rpartition("@")
        return name, commit

    def base(self, config: ModelConfig, *, weights: bool = True) -> ModelFolder:
        """The model that this adapter was trained on.

        The place that the adapter names comes first, from its own folder if that is a relative
        path; if it is gone (the run folder was moved to another machine), the run's initial policy
        is taken.

        Raises:
            InputError: neither can be found, or the base is an adapter itself.
        """
        stated, place = self.adapter_config().get("base_model_name_or_path"), self._base_path()
        named, revision = str(place or stated or ""), self.adapter_config().get("revision")
        if not named or (_is_place(named) and not Path(named).is_dir()):
            named, revision = config.path, config.revision
        if Path(named).is_dir() and Path(named).resolve() == self.path.resolve():
            raise InputError(
                f"{self.path / ADAPTER_CONFIG}: the base model that this adapter names is not "
                f"found: base_model_name_or_path is {stated!r}, and there is no folder "
                f"{self.path.resolve() / str(stated)}; give the path of the base, absolute or from "
                "the adapter's folder, or its name on the Hub"
            )
        own = config.model_copy(update={"path": named, "revision": revision})
        try:
            base = find_model(named, own, weights=weights)
        except InputError as error:
            raise InputError(f"{self.path / ADAPTER_CONFIG}: its base: {error}") from None
        if base.is_adapter:
            raise InputError(
                f"{self.path}: its base {base.path} is a LoRA adapter too; expected full weights. "
                "Merge that adapter into its base first"
            )
        return base

    def _base_path(self) -> Path | None:
        """The folder of the base, where the adapter names one that exists."""
        named = self.adapter_config().get("base_model_name_or_path")
        # From the adapter first: its folder moves together with what stands beside it.
        places = [self.path.resolve() / named, Path(named)] if named else []
        return next((place for place in places if place.is_dir()), None)

    def adapter_config(self) -> dict[str, Any]:
        """The adapter's own description, as peft writes it."""
        return read_object(self.path / ADAPTER_CONFIG)

    def identity(self, config: ModelConfig) -> str:
        """What this model is, wherever it stands: see `tspin.models.policy.policy_identity`."""
        own = f"hub:{self.hub}" if self.hub else content_hash(self.path)
        if not self.is_adapter:
            return own
        return f"{own}+{self.base(config, weights=False).identity(config)}"


def find_model(
    model: str | ModelFolder, config: ModelConfig, *, weights: bool = True
) -> ModelFolder:
    """Find a model folder, or fetch a Hub model into the local cache (which works offline later).

    Args:
        model: A folder, `s3://bucket/prefix` of one, or a name on the Hub; or one that was found
            before, which is only looked for again if its weights are asked for and not here.
        config: Its revision holds for `config.path` only; other Hub names take their newest.
        weights: Also fetch the weights, not only the configuration and the tokenizer.

    Raises:
        InputError: no such folder or Hub model, the Hub cannot be reached, or there are no
            safetensors weights.
    """
    if isinstance(model, ModelFolder):
        return model if model.weights or not weights else _with_weights(model, config)
    if is_remote(model):
        return _checked(ModelFolder(fetch(model)), model)
    if Path(model).is_dir():
        return _checked(ModelFolder(Path(model)), model)
    if Path(model).exists() or _is_place(model):
        raise InputError(f"model '{model}': no such folder; expected one with safetensors weights")
    revision = config.revision if model == config.path else None
    snapshot = _fetch(model, revision, config, weights=weights)
    return _checked(snapshot, model) if weights else snapshot


def fetch_weights(identity: str) -> None:
    """Fetch the weights of a policy's Hub models into the local cache, where they are not there.

    Args:
        identity: Of the policy (`ModelFolder.identity`), which names its models by commit; models
            that stand in folders are left where they are.

    Raises:
        InputError: the Hub cannot be reached, or has no such model.
    """
    for model in identity.split("+"):
        kind, _, named = model.partition(":")
        if kind == "hub":
            name, _, commit = named.rpartition("@")
            find_model(name, ModelConfig(path=name, revision=commit))


def _is_place(named: str) -> bool:
    """Whether a name is a path, and not a name on the Hub."""
    return named.startswith((".", "/", "~")) or named.count("/") > 1


def adapter_vocabulary(folder: ModelFolder) -> int | None:
    """How many tokens the embeddings in an adapter's files are for; None where it has none.

    peft saves embeddings, with those of the output, where they were resized or trained as a whole.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.path.glob("adapter_model*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                named = [name for name in weights.keys() if _EMBEDDING.search(name)]  # noqa: SIM118
                if named:
                    return int(weights.get_slice(named[0]).get_shape()[0])
        except SafetensorError:
            return None  # Whoever loads the weights says that they are damaged.
    return None


def _with_weights(folder: ModelFolder, config: ModelConfig) -> ModelFolder:
    name, commit = folder.reference
    return _checked(_fetch(name, commit, config, weights=True), name)


def _fetch(name: str, revision: str | None, config: ModelConfig, *, weights: bool) -> ModelFolder:
    # Imported here: a local folder needs no network client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = [*_METADATA, *(_WEIGHTS if weights else ())]
    if config.trust_remote_code:
        patterns += _CODE
    at = f"model '{name}'" + (f" at revision '{revision}'" if revision else "")
    try:
        # Never the pickled weights beside them.
        path = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except RevisionNotFoundError as error:
        raise InputError(f"{at}: the Hub has no such revision of it ({error})") from None
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{at}: neither a folder here nor a model on the Hub that you may read ({error})"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{at}: no such folder, and the Hub could not be reached for it ({error}). Give a "
            "folder with safetensors weights, or fetch it once while online"
        ) from None
    return ModelFolder(path, hub=f"{name}@{path.name}", weights=weights)


def _checked(folder: ModelFolder, model: str) -> ModelFolder:
    if not folder.is_adapter and not (folder.path / _CONFIG).is_file():
        raise InputError(f"model '{model}': has neither {_CONFIG} nor {ADAPTER_CONFIG}")
    if any(folder.path.glob("*.safetensors")):
        return folder
    pickles = sorted(entry.name for entry in folder.path.iterdir() if entry.suffix in _PICKLES)
    beside = (
        f"; {pickles[0]} is a pickle, which can run code and is never loaded: convert it with "
        "transformers' save_pretrained"
        if pickles
        else ""
    )
    raise InputError(f"model '{model}': no *.safetensors weights{beside}")
