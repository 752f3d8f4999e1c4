"""Full weights and tokenizers from a model folder, with every doubt an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
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
from tspin.models.quantization import quantized_loading, settle_quantized

__all__ = ["empty_weights", "load_tokenizer", "load_weights", "without_bars"]

_SENTENCEPIECE = "sentencepiece 0.2.2 with protobuf 6"
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
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder.path, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"model '{folder.path}': its tokenizer cannot be loaded: "
            f"{error}{_sentencepiece_hint(folder)}"
        ) from None
    return cast(PreTrainedTokenizerBase, tokenizer)


def _sentencepiece_hint(folder: ModelFolder) -> str:
    """What to install, where a SentencePiece file is all there is of a tokenizer.

    transformers 5 reads it with two packages. Without one of them, or with a pair that does not go
    together (sentencepiece 0.2.3 needs protobuf 7), it takes the file for one of tiktoken's, and
    its error names that.
    """
    files = sorted(path.name for path in folder.path.glob("*.model"))
    own = [name for name in files if name not in ("tiktoken.model", "tekken.model")]
    if not own or (folder.path / "tokenizer.json").is_file():
        return ""
    there = [f"{name} {_version(name)}" for name in ("sentencepiece", "protobuf")]
    return (
        f". It is the SentencePiece file {own[0]}, with no tokenizer.json; to read it: pip install "
        f"'tspin[sentencepiece]', which is {_SENTENCEPIECE} (here: {', '.join(there)})"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def load_weights(
    folder: ModelFolder,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """A causal language model from safetensors files, on the CPU unless it is quantised.

    Args:
        folder: With safetensors files of full weights.
        config: Quantisation, attention implementation and trust.
        dtype: Of the loaded weights; of quantised ones, what they are computed in.
        device: Where quantised weights go as they are read; None is the CPU.

    Raises:
        InputError: not a model that transformers knows, damaged files, or weights that the
            configuration asks for and the files lack; weights that were quantised already.
    """
    own = model_config(folder, config)  # An encoder would load, too, and be of no use.
    quantization = quantized_loading(config, own, dtype, device)
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
                **quantization,
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
    if quantization:
        settle_quantized(model, folder.path)
    return model


def empty_weights(folder: ModelFolder, config: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    """As `load_weights`, with parameters of no memory, on the meta device.

    Args:
        folder: Of full weights, which are not read.
        config: Attention implementation and trust.
        dtype: Of the parameters.

    Raises:
        InputError: not a model that transformers knows.
    """
    own = model_config(folder, config)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                own,
                dtype=dtype,
                attn_implementation=config.attn_implementation,
                trust_remote_code=config.trust_remote_code,
            )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"model '{folder.path}': cannot be loaded: {error}") from None
    return cast(PreTrainedModel, model)


def _allow_saving(model: PreTrainedModel) -> None:
    # Some Hub models carry sampling settings beside greedy decoding, which transformers loads but
    # refuses to save: that would only show after the training.
    settings = model.generation_config
    try:
        if settings is not None:
            settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True
