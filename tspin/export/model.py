"""A model of a run as a folder that stands by itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import orjson
import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.files import atomic_folder, write_json
from tspin.models.folder import ADAPTER_CONFIG, ModelFolder
from tspin.models.generation import end_ids, generation_settings, write_end_ids
from tspin.models.policy import Policy, load_policy, load_tokenizer, save_policy
from tspin.outputs import check_output, never_ours
from tspin.records.manifest import content_hash
from tspin.report.card import model_card
from tspin.runs.folder import BASE
from tspin.runs.history import History, read_history
from tspin.tokens.ends import name_end_token
from tspin.tokens.loading import load_template

__all__ = ["chosen_iteration", "export_model"]


def chosen_iteration(run_dir: Path, asked: int | None) -> int:
    """The iteration whose model is exported: the one asked for, or the best.

    Raises:
        InputError: no such iteration, or none beat the model that the run began with.
    """
    history = read_history(run_dir, samples=0)
    finished = [played.number for played in history.iterations]
    best = history.best["iteration"] if history.best else BASE
    number = best if asked is None else asked
    if number in finished:
        return number
    if asked is None:
        raise InputError(
            f"{run_dir}: no iteration beat the model that the run began with; --iteration N takes "
            f"one all the same, of {finished}"
        )
    raise InputError(f"{run_dir}: has no iteration {asked}; it has {finished}")


def export_model(
    run_dir: Path, model: Path, number: int, *, out: Path, merge: bool, name: str
) -> None:
    """Copy or merge a model, and write its card.

    Where a temperature was fitted to the model (`evaluate.fit_temperature`), full weights carry it
    in generation_config.json, so that whoever samples from them does so at it.

    Args:
        run_dir: The run folder; its weights are not needed.
        model: Folder of the iteration's model.
        number: Of the iteration.
        out: A new folder; appears whole or not at all.
        merge: Put a LoRA adapter into its base: full weights that load without peft.
        name: What the card calls the model.

    Raises:
        InputError: `out` is there already, there is no such model, or nothing to merge.
    """
    check_output(out, never_ours, folder=True, inputs=[run_dir, model])
    if not model.is_dir():
        raise InputError(f"{model}: no such folder; the model was not kept, or not made yet")
    history = read_history(run_dir, samples=0)
    adapter = (model / ADAPTER_CONFIG).is_file()
    if merge and not adapter:
        raise InputError(f"{model}: holds full weights; there is no adapter to merge")
    with atomic_folder(out) as folder:
        if not merge:
            shutil.copytree(model, folder, dirs_exist_ok=True)
        ends = _write_model(history.config, model, folder, merge=merge)
        temperature = _fitted_temperature(history, number)
        # An adapter is sampled from as the defaults of its base say; nobody reads its own.
        if temperature is not None and (merge or not adapter):
            _write_sampling(folder, temperature)
        card = model_card(
            history,
            number,
            name=name,
            sha256=content_hash(folder),
            adapter=adapter and not merge,
            base=_base_on_hub(history, model),
            temperature=temperature,
            ends=ends,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")


def _fitted_temperature(history: History, number: int) -> float | None:
    for played in history.iterations:
        if played.number == number and "temperature/fitted" in played.metrics:
            return played.metrics["temperature/fitted"].value
    return None


def _write_sampling(folder: Path, temperature: float) -> None:
    """Make what was measured the default: the whole distribution, at the fitted temperature."""
    try:
        before = GenerationConfig.from_pretrained(folder)
    except OSError:  # Without the file, its tokens come from the model's configuration.
        before = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
    tokens = {
        name: value for name, value in before.to_diff_dict().items() if name.endswith("_token_id")
    }
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    write_json(folder / "generation_config.json", {**tokens, **sampling})


def _write_model(config: RunConfig, model: Path, folder: Path, *, merge: bool) -> list[str]:
    """Merge an adapter if asked, and let the folder say where the model stops; names of the ends.

    A model that was trained by an earlier release of this project may not say it.
    """
    try:
        template = load_template(str(model), config.model, config.prompt)
    except InputError:
        if merge or not (model / ADAPTER_CONFIG).is_file():
            raise
        return _named_ends(config, model)  # Its base is not here; the copy needs none.
    tokenizer = load_tokenizer(str(model), config.model)
    names = [template.token_name(index) for index in template.stop_ids]
    settings = generation_settings(ModelFolder(model), config.model)
    before = (tokenizer.eos_token, tokenizer.chat_template)
    name_end_token(tokenizer, template.end_token_id)
    _write_start(tokenizer, template.unwritten_start)
    if merge:
        # Whatever it was trained on: weights in four bits could be neither merged nor saved.
        whole = config.model.model_copy(update={"quantize": "none"})
        policy = load_policy(str(model), whole, device=torch.device("cpu"), trainable=False)
        merged: Policy = cast(Any, policy).merge_and_unload()  # Only adapters have it.
        save_policy(merged, tokenizer, folder, generation=settings, ends=template.stop_ids)
        return names
    write_end_ids(folder, template.stop_ids, settings)
    if (tokenizer.eos_token, tokenizer.chat_template) != before:
        tokenizer.save_pretrained(folder)
    return names


def _write_start(tokenizer: PreTrainedTokenizerBase, start: str) -> None:
    """Let the chat template write the BOS that training put in front of every prompt.

    Servers ask what a chat template renders and nothing more (vLLM's `/v1/chat/completions` with
    `add_special_tokens` off, its default), which is not what was trained and measured.
    """
    written = tokenizer.chat_template
    if not start or not isinstance(written, str):
        return
    turns = [{"role": "user", "content": "?"}]
    alone = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    tokenizer.chat_template = start + written
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    if whole != f"{start}{alone}":  # What begins a line counts in Jinja.
        tokenizer.chat_template = written


def _named_ends(config: RunConfig, adapter: Path) -> list[str]:
    """The end tokens that an adapter's own folder names; none where it was made before it did."""
    if not (adapter / "generation_config.json").is_file():
        return []
    tokenizer = load_tokenizer(str(adapter), config.model)
    ends = end_ids(ModelFolder(adapter), config.model)
    return [str(tokenizer.convert_ids_to_tokens(index)) for index in ends]


def _base_on_hub(history: History, model: Path) -> str | None:
    """Name on the Hub of what the run began with; None for a folder or a store."""
    path = model / ADAPTER_CONFIG
    if path.is_file():
        named = str(orjson.loads(path.read_bytes())["base_model_name_or_path"])
    else:
        first = history.manifests.get("iter-0/model")
        identity = ((first and first.model) or "").removeprefix("hub:")
        named = identity.rpartition("@")[0]
    return named if named and not Path(named).is_absolute() else None
