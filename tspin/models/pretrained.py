"""Full weights and tokenizers from a model folder, with every doubt an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.models.configuration import model_config
from tspin.models.folder import ModelFolder, find_model

__all__ = ["load_tokenizer", "load_weights", "without_bars"]

_SENTENCEPIECE = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
"""What reads a SentencePiece file, by module and by package."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bars that transformers draws, into logs too, for weight files and folders."""
    before = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if before:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(model: str | ModelFolder, config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; an adapter folder without one takes its base's.

    Args:
        model: A folder, or a name on the Hub.
        config: Revision and trust.

    Raises:
        InputError: there is no such model, or it has no tokenizer.
    """
    folder = find_model(model, config, weights=False)
    if folder.is_adapter and not any((folder.path / name).is_file() for name in _TOKENIZER_FILES):
        folder = folder.base(config, weights=False)
    _refuse_missing_packages(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"model '{folder.path}': its tokenizer cannot be loaded: {error}"
        ) from None
    return cast(PreTrainedTokenizerBase, tokenizer)


def _refuse_missing_packages(folder: ModelFolder) -> None:
    """Without them the loader tries another kind of file, and names a package for that one."""
    models = sorted(path.name for path in folder.path.glob("*.model"))
    sentencepiece = [name for name in models if name not in ("tiktoken.model", "tekken.model")]
    if (folder.path / "tokenizer.json").is_file() or not sentencepiece:
        return
    missing = [name for name in _SENTENCEPIECE if not _is_installed(name)]
    if missing:
        packages = " ".join(_SENTENCEPIECE[name] for name in missing)
        raise InputError(
            f"model '{folder.path}': its tokenizer is the SentencePiece file {sentencepiece[0]}, "
            f"with no tokenizer.json, and to read it needs: pip install {packages}"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # Of the package above it.
        return False


def load_weights(folder: ModelFolder, config: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model from safetensors files, on the CPU.

    Args:
        folder: With safetensors files of full weights.
        config: Attention implementation and trust.
        dtype: Of the loaded weights.

    Raises:
        InputError: not a model that transformers knows, damaged files, or weights that the
            configuration asks for and the files lack.
    """
    model_config(folder, config)  # An encoder would load, too, and be of no use.
    try:
        with without_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder.path,
                dtype=dtype,
                attn_implementation=config.attn_implementation,
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # Refused below, by name.
            )
    except (OSError, ValueError, ImportError, SafetensorError, RuntimeError) as error:
        raise InputError(f"model '{folder.path}': cannot be loaded: {error}") from None
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    # transformers only warns about these, and goes on with random numbers in their place.
    absent = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    if absent:
        raise InputError(
            f"model '{folder.path}': the safetensors files lack {len(absent)} weights that its "
            f"config.json asks for, or have them in another shape, such as {absent[0]}"
        )
    _allow_saving(model)
    return model


def _allow_saving(model: PreTrainedModel) -> None:
    # Some Hub models carry sampling settings beside greedy decoding, which transformers loads but
    # refuses to save: that would only show after the training.
    settings = model.generation_config
    try:
        if settings is not None:
            settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True
