"""What a policy answers to the held-out prompts, one file a decoding."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tspin.engines import SamplingParams, engine_parameters, open_engine
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.job import EvaluationJob, Mode
from tspin.generate.responses import write_responses
from tspin.records.manifest import Manifest, forget, is_current, write_manifest
from tspin.records.records import Response, read_records
from tspin.runs.folder import BASE, EvaluationFiles
from tspin.seeds import derive_seed

__all__ = ["heldout_answers"]


def heldout_answers(
    evaluation: EvaluationJob, heldout: Heldout, out: Path, mode: Mode, sampling: SamplingParams
) -> dict[str, Response]:
    """Answers by record id; made once, resumable, and kept beside metrics.json.

    Args:
        evaluation: The policy and its settings.
        heldout: The records.
        out: metrics.json; the answers are `metrics.MODE.jsonl`.
        mode: What the decoding is called.
        sampling: The decoding.

    Raises:
        TspinError: the work failed; run again to continue.
    """
    path = EvaluationFiles(out).answers(mode)
    config, manifest = evaluation.config, _manifest(evaluation, sampling)
    if not is_current(path, manifest):
        forget(path)
        responses = write_responses(
            open_engine=lambda: open_engine(config, evaluation.model, evaluation.template),
            template=evaluation.template,
            records=heldout.records,
            sampling=sampling,
            # Other draws than those that are trained on, should a prompt be in both sets.
            seed_of=lambda record: derive_seed(
                config.seed, "heldout", _drawn_as(evaluation), record
            ),
            out=path,
            decisive={
                "model": manifest.model,
                "engine": manifest.engine,
                **engine_parameters(config),
            },
            max_length=evaluation.max_length,
            over_long="error",  # What is too long is gone by now.
            label=f"evaluate, {mode}",
        )
        write_manifest(path, manifest.model_copy(update={"counts": responses.counts}))
    return {response.id: response for response in read_records(path, Response)}


def _drawn_as(evaluation: EvaluationJob) -> int:
    """The iteration whose random numbers the answers are drawn with."""
    coupled = evaluation.config.generate.coupled
    return BASE if coupled else evaluation.wanted.iteration or 0


def _manifest(evaluation: EvaluationJob, sampling: SamplingParams) -> Manifest:
    """Of the answers of one decoding, but for its counts."""
    config, metrics = evaluation.config, evaluation.wanted
    parameters = {
        **dataclasses.asdict(sampling),
        "stop": list(sampling.stop),  # As JSON gives it back, to compare.
        "max_records": config.evaluate.max_records,
        "max_length": evaluation.max_length,
        "over_long": config.prompt.over_long,
        **engine_parameters(config),
        **({} if _drawn_as(evaluation) == metrics.iteration else {"coupled": True}),
    }
    inputs = {"annotated": metrics.inputs["annotated"]}
    update = {"kind": "responses", "inputs": inputs, "parameters": parameters}
    return metrics.model_copy(update=update)
