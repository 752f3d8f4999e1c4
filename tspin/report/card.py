"""The card of an exported model: what it is, how good, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tspin.config import SUPERVISED, PromptConfig, RunConfig
from tspin.records.manifest import Manifest
from tspin.report.markdown import plain, table_text
from tspin.report.overview import (
    facts,
    headline_metrics,
    measurements,
    metric_names,
    state,
    verdict,
    warnings,
)
from tspin.report.wording import METHODS, metric_title
from tspin.runs.history import History

__all__ = ["model_card"]

_PROMPTS = {
    "instruction": "Prompts were rendered as `### Instruction: {prompt}\\n\\n### Response: `.",
    "chat": "Prompts were rendered by the tokenizer's chat template.",
    "auto": "Prompts were rendered by the tokenizer's chat template, or where there is none as "
    "`### Instruction: {prompt}\\n\\n### Response: `.",
}


def model_card(
    history: History,
    number: int,
    *,
    name: str,
    sha256: str,
    adapter: bool,
    base: str | None,
    temperature: float | None,
    ends: Sequence[str],
) -> str:
    """The text of README.md in a model's folder, as the Hugging Face Hub reads it.

    Args:
        history: Of the run.
        number: The iteration that the model ended.
        name: What the model is called: a folder, or a name on the Hub.
        sha256: Of its weights and configuration.
        adapter: Whether it is a LoRA adapter.
        base: Name on the Hub of the model that the run began with; None if it is not from there.
        temperature: Fitted to held-out annotations; None if none was.
        ends: Names of the tokens that end a response.
    """
    config = history.config
    trained = history.manifests.get(f"iter-{number}/model") or Manifest(kind="model")
    own, tasks = _metrics(history)
    tables = [measurements(history, names) for names in (own, tasks)]
    text = _template().render(
        title=plain(name.rpartition("/")[2]),
        verdict=plain(verdict(history)),
        state=state(history),
        method=METHODS[config.train.method],
        commit=trained.tspin_commit,
        initial=plain(config.model.path),
        number=number,
        warnings=[plain(warning) for warning in warnings(history)],
        confidence=f"{config.evaluate.confidence:.0%}",
        tables=[table_text(table) for table in tables if table.titles],
        tasks=dict(facts(history)).get("Tasks", ""),
        training=_training(config),
        provenance=_provenance(history, number, trained, sha256),
        versions={"tspin": "", **trained.versions},
        adapter=adapter,
        temperature=temperature,
        ends=list(ends),
        name=name,
        prompt=_prompt(config.prompt),
    )
    return f"---\n{_metadata(history, number, name, adapter, base).to_yaml()}\n---\n\n{text}\n"


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tspin.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (Markdown; what is shown is the configuration's)
    )
    return environment.get_template("model_card.md.j2")


def _prompt(prompt: PromptConfig) -> str:
    """How prompts were rendered, with what whoever asks the model has to set."""
    told = [_PROMPTS[prompt.template]]
    if prompt.chat_template is not None:
        told.append("That template is a file of the run; it stands in this folder.")
    if prompt.chat_template_kwargs:
        keywords = json.dumps(prompt.chat_template_kwargs, sort_keys=True)
        told.append(
            f"It was asked with `{keywords}`: hand them to `apply_chat_template`, or to a server "
            "as `chat_template_kwargs`."
        )
    return " ".join(told)


def _metrics(history: History) -> tuple[list[str], list[str]]:
    """The report's first metrics, and those of tasks."""
    own = [name for name in headline_metrics(history) if not name.startswith("lm_eval/")]
    return own, [name for name in metric_names(history) if name.startswith("lm_eval/")]


def _metadata(
    history: History, number: int, name: str, adapter: bool, base: str | None
) -> ModelCardData:
    measured = {played.number: played.metrics for played in history.played}.get(number, {})
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="heldout",
            dataset_name="held-out records",
            metric_type=metric,
            metric_name=metric_title(metric),
            metric_value=measured[metric].value,
        )
        for metric in chain(*_metrics(history))
        if metric in measured
    ]
    return ModelCardData(
        base_model=base,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["tspin", "self-play", "arxiv:2601.08198"],
        model_name=name,
        eval_results=results or None,
    )


def _training(config: RunConfig) -> list[tuple[str, Any]]:
    train = config.train
    coefficients: dict[str, Any] = {}
    if train.method.startswith("tspin"):
        coefficients = {"alpha": train.alpha, "beta": f"{train.beta} (0 at iteration 0)"}
    if train.method == "tspin_no_history":
        coefficients["beta"] = 0
    if train.method == "spin":
        coefficients = {"lambda": train.spin_lambda}
    elif train.method == "space":
        coefficients = {"mu": train.noise_ratio}
    elif train.method == "sdft":
        shown = " ".join(train.sdft_template.split())  # One line of a list.
        coefficients = {"divergence": train.sdft_divergence, "teacher's prompt": f"`{shown}`"}
    elif train.method == "rft":
        most = "" if train.rft_cap is None else f", at most {train.rft_cap} a prompt"
        coefficients = {"right by the extractor": f"`{train.rft_extractor}`{most}"}
    if train.method not in (*SUPERVISED, "space", "sdft"):
        coefficients["link"] = train.link
    if train.method != "sft":
        coefficients |= _departures(config)
    told: dict[str, Any] = {
        "method": train.method,
        **coefficients,
        "iterations": config.iterations,
        "epochs an iteration": train.epochs,
        "learning rate": train.learning_rate,
        "schedule": f"{train.schedule}, after a warm-up over {train.warmup_ratio:.0%} of the steps",
        "triplets an optimiser step": train.global_batch_size,
        "optimiser": train.optimizer,
        **({"weight decay": train.weight_decay} if train.weight_decay else {}),
        **({"gradient clipped at": train.max_grad_norm} if train.max_grad_norm else {}),
        "LoRA": "no" if train.lora is None else f"rank {train.lora.r}, alpha {train.lora.alpha}",
        **_quantization(config),
        "sampling": f"temperature {config.generate.temperature}, top_p {config.generate.top_p}, "
        f"at most {config.generate.max_new_tokens} tokens",
        "seed": config.seed,
    }
    return list(told.items())


def _quantization(config: RunConfig) -> dict[str, str]:
    """What the adapter was trained on, where that was not the base as it is."""
    quantize = config.model.quantize
    if quantize == "none":
        return {}
    return {"base under the adapter": f"in four bits ({quantize}), in training and evaluation"}


def _departures(config: RunConfig) -> dict[str, Any]:
    """What is not the papers' method, where it was asked for."""
    train, told = config.train, dict[str, Any]()
    if train.length_normalised:
        told["length-normalised"] = "each summed log-likelihood divided by its number of tokens"
    if config.generate.samples > 1:
        told["responses to a prompt"] = config.generate.samples
    if train.sft_weight and train.method not in SUPERVISED:
        told["weight of the annotation's likelihood in the loss"] = train.sft_weight
    if config.triplets.same_answer is not None:
        told["left out"] = (
            "triplets whose y' has the annotated answer, as the extractor "
            f"`{config.triplets.same_answer}` finds it"
        )
    return told


def _provenance(
    history: History, number: int, trained: Manifest, sha256: str
) -> list[tuple[str, str]]:
    triplets = history.manifests.get(f"iter-{number}/triplets.jsonl")
    evaluated = history.manifests.get(f"iter-{number}/metrics.json")
    told = {
        "these weights": sha256,
        "policy it was trained from": trained.model,
        "annotated records": (triplets or trained).inputs.get("annotated"),
        "y' (responses of that policy)": triplets and triplets.inputs.get("synthetic"),
        "y0 (responses of the initial policy)": triplets and triplets.inputs.get("proto_synthetic"),
        "triplets": trained.inputs.get("triplets"),
        "held-out records": evaluated and evaluated.inputs.get("annotated"),
        "prompt template": trained.template,
        # A manifest without `tspin_commit` does not say whose commit its `git_commit` is.
        "git commit of the project's folder": (
            trained.git_commit if "tspin_commit" in trained.model_fields_set else None
        ),
    }
    return [(name, value) for name, value in told.items() if value]
