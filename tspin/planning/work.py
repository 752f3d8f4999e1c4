"""What each stage of a run computes and writes: tokens, operations, bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from tspin.config import RunConfig
from tspin.harness.lengths import RequestLengths, TaskLengths
from tspin.planning.lengths import DataLengths, RecordLengths
from tspin.planning.sizes import Sizes
from tspin.tokens.examples import roles_of
from tspin.train.reference import needs_reference

__all__ = ["Kind", "Stage", "Work", "run_stages"]

Kind = Literal["proto", "heldout_proto", "base", "generate", "triplets", "train", "evaluate"]
"""As `tspin.runs.clock` counts a run's time."""

_FIT_PASSES = 10
"""Over the annotations, to fit a temperature: one over a grid, and those that close in on it."""


@dataclass(frozen=True)
class Work:
    """What is computed and written."""

    responses: float = 0
    """That are generated."""
    prompt_tokens: float = 0
    """Of the prompts that are answered."""
    generated_tokens: float = 0
    """End tokens not counted, as in a manifest and in a comparison's costs."""
    trained_tokens: float = 0
    """Through forward and backward passes, over all epochs."""
    scored_tokens: float = 0
    """Through forward passes alone: likelihoods of an evaluation, a reference policy's."""
    generation_flops: float = 0
    training_flops: float = 0
    scoring_flops: float = 0
    steps: int = 0
    """Of the optimiser."""
    written: float = 0
    """Bytes that stay in the run folder."""

    def part(self, count: int) -> Work:
        """One of so many equal parts."""
        names = [field.name for field in fields(self)]
        return Work(**{name: getattr(self, name) / count for name in names})

    @property
    def flops(self) -> float:
        """Operations of all kinds."""
        return self.generation_flops + self.training_flops + self.scoring_flops

    def __add__(self, other: Work) -> Work:
        names = [field.name for field in fields(self)]
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class Stage:
    """One step of a run."""

    kind: Kind
    iteration: int | None
    """None before the first."""
    expected: Work
    """Where the policy's responses are as long as the annotations, cut at max_new_tokens."""
    most: Work
    """Where every one goes to max_new_tokens."""


def run_stages(
    config: RunConfig,
    sizes: Sizes,
    annotated: DataLengths,
    heldout: DataLengths | None,
    tasks: Sequence[TaskLengths] = (),
) -> list[Stage]:
    """The steps of a run in the order of `tspin.selfplay`, none stopped by the gate.

    Args:
        config: Of the run.
        sizes: Of its model.
        annotated: Lengths of data.annotated.
        heldout: Lengths of data.heldout; None where there is none.
        tasks: What each evaluation asks of lm-evaluation-harness.
    """
    counts = [_Counts(config, sizes, annotated, heldout, tasks, most) for most in (False, True)]

    def stage(kind: Kind, iteration: int | None) -> Stage:
        return Stage(kind, iteration, *(one.of(kind, iteration) for one in counts))

    pairs = config.train.method != "sft"
    stages: list[Stage] = []
    if heldout is not None:
        stages += [stage("heldout_proto", None)] if pairs else []
        stages.append(stage("base", None))
    for iteration in range(config.iterations):
        if pairs:
            stages.append(stage("generate" if iteration else "proto", iteration))
            stages.append(stage("triplets", iteration))
        stages.append(stage("train", iteration))
        if heldout is not None:
            stages.append(stage("evaluate", iteration))
    return stages


@dataclass(frozen=True)
class _Counts:
    config: RunConfig
    sizes: Sizes
    annotated: DataLengths
    heldout: DataLengths | None
    tasks: Sequence[TaskLengths]
    most: bool

    def of(self, kind: Kind, iteration: int | None) -> Work:
        new = self.config.generate.max_new_tokens
        if kind == "heldout_proto" and self.heldout is not None:
            return _scaled(self._answers(self.heldout.lengths, new), self.heldout.each)
        if kind in ("proto", "generate"):
            samples = self.config.generate.samples
            answers = self._answers(self.annotated.lengths, new)
            work = _scaled(answers, self.annotated.each * samples)
            # At iteration 0 the responses are y0 and y' alike, in two files.
            return work + Work(written=work.written if kind == "proto" else 0)
        if kind == "triplets":
            earlier = len(self.config.train.history_at(iteration or 0)[1:])
            written = sum(self._triplet_bytes(one, earlier) for one in self._trained())
            return _scaled([Work(written=written)], self.annotated.each)
        if kind == "train":
            return self._training(iteration or 0)
        return self._evaluation(compared=kind == "evaluate")

    def _answers(self, lengths: Iterable[RecordLengths], limit: int) -> list[Work]:
        return [self._answer(one, limit) for one in lengths]

    def _answer(self, one: RecordLengths, limit: int) -> Work:
        emitted = one.emitted(limit, most=self.most)
        cut = self.most or one.annotated > limit
        computes = self.config.generate.engine != "fake"
        flops = self.sizes.flops.of_lengths(one.prompt, [emitted], backward=False)
        return Work(
            responses=1,
            prompt_tokens=one.prompt,
            generated_tokens=emitted if cut else emitted - 1,
            generation_flops=flops if computes else 0,
            written=one.response_bytes + one.longer(emitted),
        )

    def _trained(self) -> list[RecordLengths]:
        return [one for one in self.annotated.lengths if one.fits]

    def _triplet_bytes(self, one: RecordLengths, earlier: int) -> float:
        emitted = one.emitted(self.config.generate.max_new_tokens, most=self.most)
        further = self.config.generate.samples - 1 + earlier
        played = 2 * one.longer(emitted)  # y' and y0; y stays as it is.
        return one.triplet_bytes + played + further * (one.text_bytes + one.longer(emitted))

    def _training(self, iteration: int) -> Work:
        train, limit = self.config.train, self.config.generate.max_new_tokens
        roles = len(roles_of(train, iteration))
        parts = []
        for one in self._trained():
            emitted = one.emitted(limit, most=self.most)
            if train.method == "rft":
                parts += self._right_answers(one, emitted)
            further = self.config.generate.samples - 1 if roles > 1 else 0
            responses = [one.annotated, *[emitted] * (roles - 1 + further)]
            tokens, flops = self.sizes.passes(one.prompt, responses, backward=True)
            work = Work(trained_tokens=train.epochs * tokens, training_flops=train.epochs * flops)
            if needs_reference(train.method):
                tokens, flops = self.sizes.passes(one.prompt, responses)
                work += Work(scored_tokens=tokens, scoring_flops=flops)
            if train.demonstration is not None:
                tokens, flops = self.sizes.passes(one.taught, responses[1:])
                work += _scoring(train.epochs * tokens, train.epochs * flops)
            parts.append(work)
        examples = len(parts) * self.annotated.each
        steps = train.epochs * math.ceil(round(examples) / train.global_batch_size)
        return _scaled(parts, self.annotated.each) + Work(
            steps=steps, written=self.sizes.model_bytes
        )

    def _right_answers(self, one: RecordLengths, emitted: int) -> list[Work]:
        """As if all of the policy's responses were right and none was like another."""
        train = self.config.train
        most = self.config.generate.samples
        tokens, flops = self.sizes.passes(one.prompt, [emitted], backward=True)
        work = Work(trained_tokens=train.epochs * tokens, training_flops=train.epochs * flops)
        return [work] * (most if train.rft_cap is None else min(most, train.rft_cap))

    def _evaluation(self, *, compared: bool) -> Work:
        if self.heldout is None:
            return Work()
        settings, heldout = self.config.evaluate, self.heldout
        new = settings.max_new_tokens or self.config.generate.max_new_tokens
        modes = 1 + settings.sampled + (settings.sampled and settings.fit_temperature)
        parts = []
        for one in heldout.lengths:
            if not one.fits:
                continue
            parts += [self._answer(one, new)] * modes
            scored = [one.annotated] + [one.emitted(new, most=self.most)] * settings.sampled
            if compared and self.config.train.method != "sft":
                initial = self.config.generate.max_new_tokens
                scored.append(one.emitted(initial, most=self.most))
            parts.append(_scoring(*self.sizes.passes(one.prompt, scored)))
            if settings.fit_temperature:
                tokens, flops = self.sizes.passes(one.prompt, [one.annotated])
                parts.append(_scoring(_FIT_PASSES * tokens, _FIT_PASSES * flops))
        asked = (
            _scaled([self._request(one) for one in task.lengths], task.each) for task in self.tasks
        )
        return sum(asked, _scaled(parts, heldout.each))

    def _request(self, one: RequestLengths) -> Work:
        """Of a task; each is computed by itself, its few-shot examples included."""
        emitted = one.most if self.most and one.most else one.response
        flops = self.sizes.flops.of_lengths(one.prompt, [emitted], backward=False)
        if not one.most:
            return _scoring(one.prompt + one.response, flops)
        return Work(
            responses=1,
            prompt_tokens=one.prompt,
            generated_tokens=emitted,
            generation_flops=flops,
        )


def _scoring(tokens: float, flops: float) -> Work:
    return Work(scored_tokens=tokens, scoring_flops=flops)


def _scaled(parts: list[Work], factor: float) -> Work:
    """The sum of what was looked at, as of all records."""
    names = [field.name for field in fields(Work)]
    return Work(**{name: factor * sum(getattr(one, name) for one in parts) for name in names})
