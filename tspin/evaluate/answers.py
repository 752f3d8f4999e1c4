"""What a policy answers to the held-out prompts, one file a decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from tspin.engines import (
    Completion,
    Engine,
    GenerationRequest,
    SamplingParams,
    engine_parameters,
    open_engine,
)
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.job import EvaluationJob, Mode, shard_parameters
from tspin.generate.responses import write_responses
from tspin.records.manifest import Manifest, forget, is_current, write_manifest
from tspin.records.records import Response, read_records
from tspin.runs.folder import BASE, EvaluationFiles
from tspin.seeds import derive_seed

__all__ = ["LentEngine", "heldout_answers"]


class LentEngine:
    """One engine for all decodings: started where the first has something to ask.

    vLLM takes minutes to start. Nothing of one decoding is left for the next: an engine's answer
    depends on its request alone (`tspin.engines.Engine`).
    """

    def __init__(self, evaluation: EvaluationJob) -> None:
        self._evaluation = evaluation
        self._engine: Engine | None = None

    def lent(self) -> Engine:
        """The engine, for a user who closes it: it stays open until `close` of this."""
        if self._engine is None:
            job = self._evaluation
            self._engine = open_engine(job.config, job.model, job.template)
        return _Lent(self._engine)

    def close(self) -> None:
        """Give back memory and processes, if there are any."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class _Lent:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        return self._engine.generate(requests, sampling)

    def close(self) -> None:
        """Its owner closes it."""


def heldout_answers(
    evaluation: EvaluationJob,
    heldout: Heldout,
    out: Path,
    mode: Mode,
    sampling: SamplingParams,
    engine: LentEngine,
) -> dict[str, Response]:
    """Answers by record id; made once, resumable, and kept beside metrics.json.

    Args:
        evaluation: The policy and its settings.
        heldout: The records.
        out: metrics.json; the answers are `metrics.MODE.jsonl`.
        mode: What the decoding is called.
        sampling: The decoding.
        engine: Answers what is not answered yet.

    Raises:
        TspinError: the work failed; run again to continue.
    """
    path = EvaluationFiles(out).answers(mode)
    config, manifest = evaluation.config, _manifest(evaluation, sampling)
    if not is_current(path, manifest):
        forget(path)
        responses = write_responses(
            open_engine=engine.lent,
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
        **shard_parameters(evaluation.shard, evaluation.block_size),
        **({} if _drawn_as(evaluation) == metrics.iteration else {"coupled": True}),
    }
    inputs = {"annotated": metrics.inputs["annotated"]}
    update = {"kind": "responses", "inputs": inputs, "parameters": parameters}
    return metrics.model_copy(update=update)
