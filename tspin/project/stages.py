"""The stages of a run as dvc.yaml has them: each is one `tspin` command.

DVC cannot say "the iteration before", nor count to a parameter: the items of `foreach` are written
out, each with its number `t` and the model `prev` that it starts from. Everything else refers to
params.yaml, which is the run configuration. Stages watch manifests as well: the same responses of
another policy are other responses.
"""

from __future__ import annotations

from typing import Any

from tspin.config import RunConfig
from tspin.project.stage import check_stage, curve, foreach, stage, with_manifest
from tspin.store import is_remote

__all__ = ["HUB_MODEL", "WATCHED", "Stages"]

WATCHED = ("seed", "model", "prompt", "generate", "triplets", "train", "evaluate", "gate")
"""What of params.yaml some stage watches, and so must be there."""

HUB_MODEL = "model.ref.json"
"""Stands for a model that is no folder here: name and revision."""

_RUN = "${run_dir}"
_ITERATION = "${run_dir}/iter-${item.t}"
_SAMPLING = ["seed", "model", "prompt", "generate"]
_TRAINING = ["seed", "model", "prompt", "train"]


class Stages:
    """The stages for one configuration."""

    def __init__(self, config: RunConfig, *, hub: bool) -> None:
        """Nothing is read or written.

        Args:
            config: Of the run.
            hub: Whether the initial policy comes from the Hub, where DVC cannot look at it.
        """
        self._config = config
        self._pairs = config.train.method != "sft"
        self._measures = config.data.heldout is not None
        self._hub = hub
        self._initial = HUB_MODEL if hub else "${model.path}"
        self._previous = "${item.watched}" if hub else "${item.prev}"

    def stages(self) -> dict[str, Any]:
        """By name, in the order of the method."""
        stages: dict[str, Any] = {"check": check_stage()}
        if self._pairs:
            stages["proto"] = self._initial_responses("annotated", "proto.jsonl")
        if self._pairs and self._measures:
            stages["heldout-proto"] = self._initial_responses("heldout", "heldout_proto.jsonl")
        if self._measures:
            stages["evaluate-initial"] = self._evaluate_initial()
        if self._pairs:
            if self._config.iterations > 1:
                stages["generate"] = foreach(self._items(1), self._generate())
            stages["triplets"] = foreach(self._triplet_items(), self._triplets())
        stages["train"] = foreach(self._items(0), self._train())
        if self._measures:
            stages["evaluate"] = foreach(self._items(0), self._evaluate())
        stages["finish"] = self._finish()
        return stages

    def plots(self) -> list[dict[str, Any]]:
        """Curves over iterations and over optimiser steps."""
        run = self._config.run_dir
        curves: list[dict[str, Any]] = [curve("loss", "step", f"{run}/training.json")]
        if self._measures:
            metric = self._config.gate.metric.replace("/", ".")
            for name in dict.fromkeys((metric, "nll_per_token")):
                curves.append(curve(name, "iteration", f"{run}/iterations.json"))
        return curves

    def _items(self, first: int) -> list[dict[str, Any]]:
        run, items = self._config.run_dir, []
        for number in range(first, self._config.iterations):
            before = f"{run}/iter-{number - 1}/model" if number else self._config.model.path
            item: dict[str, Any] = {"t": number, "prev": before}
            if self._hub:
                item["watched"] = before if number else HUB_MODEL
            items.append(item)
        return items

    def _triplet_items(self) -> list[dict[str, Any]]:
        """At iteration 0 the responses of the initial policy are y' as well."""
        run = self._config.run_dir
        own = (f"iter-{number}/synthetic.jsonl" for number in range(1, self._config.iterations))
        names = ("proto.jsonl", *own)
        return [{"t": t, "synthetic": f"{run}/{name}"} for t, name in enumerate(names)]

    def _initial_responses(self, records: str, name: str) -> dict[str, Any]:
        out = f"{_RUN}/{name}"
        return stage(
            f"generate --model ${{model.path}} --annotated ${{data.{records}}} --out {out}",
            deps=[self._initial, f"${{data.{records}}}", *self._template()],
            params=_SAMPLING,
            outs=with_manifest(out),
        )

    def _generate(self) -> dict[str, Any]:
        out = f"{_ITERATION}/synthetic.jsonl"
        return stage(
            f"generate --model ${{item.prev}} --annotated ${{data.annotated}} --out {out} "
            "--iteration ${item.t}",
            deps=[self._previous, "${data.annotated}", *self._template()],
            params=_SAMPLING,
            outs=with_manifest(out),
        )

    def _triplets(self) -> dict[str, Any]:
        out, proto = f"{_ITERATION}/triplets.jsonl", f"{_RUN}/proto.jsonl"
        return stage(
            "build-triplets --annotated ${data.annotated} --synthetic ${item.synthetic} "
            f"--proto {proto} --out {out}",
            deps=[
                "${data.annotated}",
                *with_manifest("${item.synthetic}"),
                *with_manifest(proto),
            ],
            params=["triplets"],
            outs=with_manifest(out),
        )

    def _train(self) -> dict[str, Any]:
        triplets = f"{_ITERATION}/triplets.jsonl"
        examples = with_manifest(triplets) if self._pairs else ["${data.annotated}"]
        out = f"{_ITERATION}/model"
        return stage(
            f"train --model ${{item.prev}} --triplets {examples[0]} --out {out} "
            "--iteration ${item.t}",
            deps=[self._previous, *examples, *self._template()],
            params=_TRAINING,
            outs=[*with_manifest(out), f"{_ITERATION}/train_log.jsonl"],
        )

    def _evaluate_initial(self) -> dict[str, Any]:
        out = f"{_RUN}/base/metrics.json"
        return stage(
            "evaluate --model ${model.path} --annotated ${data.heldout} --iteration -1 "
            f"--out {out}",
            deps=[self._initial, "${data.heldout}", *self._template(), *self._tasks()],
            params=[*_SAMPLING, "evaluate"],
            outs=self._answers(out),
        )

    def _evaluate(self) -> dict[str, Any]:
        out, trained = f"{_ITERATION}/metrics.json", f"{_ITERATION}/model"
        proto = f"{_RUN}/heldout_proto.jsonl"
        compared = [proto] if self._pairs else []
        watched = with_manifest(proto) if self._pairs else []
        return stage(
            f"evaluate --model {trained} --annotated ${{data.heldout}} --iteration ${{item.t}} "
            f"--out {out}" + "".join(f" --proto {path}" for path in compared),
            deps=[trained, "${data.heldout}", *watched, *self._template(), *self._tasks()],
            params=[*_SAMPLING, "evaluate"],
            outs=self._answers(out),
        )

    def _template(self) -> list[str]:
        """The file of a chat template of one's own, where DVC can look at it."""
        file = self._config.prompt.chat_template
        return ["${prompt.chat_template}"] if file and not is_remote(file) else []

    def _tasks(self) -> list[str]:
        """The folder of tasks of one's own, where DVC can look at it."""
        folder = self._config.evaluate.harness.task_folder
        used = self._config.evaluate.tasks and folder and not is_remote(folder)
        return ["${evaluate.harness.task_folder}"] if used else []

    def _answers(self, out: str) -> list[str]:
        settings = self._config.evaluate
        kinds = ["greedy"] + (["sampled"] if settings.sampled else [])
        kinds += ["fitted"] if settings.sampled and settings.fit_temperature else []
        stem = out.removesuffix(".json")
        return [*with_manifest(out), *(f"{stem}.{kind}.jsonl" for kind in kinds)]

    def _finish(self) -> dict[str, Any]:
        run, numbers = self._config.run_dir, range(self._config.iterations)
        outputs = [f"{run}/iter-{number}/train_log.jsonl" for number in numbers]
        if self._measures:
            outputs += [
                f"{run}/{name}/metrics.json"
                for name in ("base", *(f"iter-{number}" for number in numbers))
            ]
        labels = ["base", *map(str, numbers)] if self._measures else []
        names = ["config.json", "best.json", "iterations.json", "training.json"]
        return stage(
            "finish",
            deps=outputs,
            params=["iterations", "data", *WATCHED],
            outs=[f"{_RUN}/{name}" for name in (*names, "report.html", "summary.md")],
            metrics=[f"{_RUN}/values/{label}.json" for label in labels],
        )
