"""The stages of a run as dvc.yaml has them: each is one `tspin` command.

DVC cannot say "the iteration before", nor count to a parameter: the items of `foreach` are written
out, each with its number `t` and the model `prev` that it starts from. Paths of params.yaml, which
is the run configuration, are written out as well, quoted for the shell: DVC puts the value of
`${run_dir}` into a command as it is, and the shell would run what is in it. Stages watch manifests
as well: the same responses of another policy are other responses.
"""

from __future__ import annotations

from shlex import quote
from typing import Any

from tspin.config import RunConfig
from tspin.project.stage import check_stage, curve, foreach, stage, with_manifest
from tspin.store import is_remote

__all__ = ["HUB_MODEL", "WATCHED", "Stages"]

WATCHED = ("seed", "model", "prompt", "generate", "triplets", "train", "evaluate", "gate")
"""What of params.yaml some stage watches, and so must be there."""

HUB_MODEL = "model.ref.json"
"""Stands for a model that is no folder here: name and revision."""

_ITERATION = "iter-${item.t}"
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
        drafted = config.generate.coupled and config.generate.engine in ("auto", "transformers")
        self._drafts = drafted and config.system.drafts
        self._run = config.run_dir.rstrip("/")
        self._model, data = config.model.path, config.data
        self._annotated, self._heldout = data.annotated, data.heldout or ""
        self._initial = HUB_MODEL if hub else self._model
        self._previous = "${item.watched}" if hub else "${item.prev}"
        # One field where the shell reads all of them as they are.
        plain = quote(self._run) == self._run and quote(self._model) == self._model
        self._policy, self._responses = ("${item.quoted}",) * 2
        if plain:
            self._policy, self._responses = "${item.prev}", "${item.synthetic}"
        self._plain = plain

    def stages(self) -> dict[str, Any]:
        """By name, in the order of the method."""
        stages: dict[str, Any] = {"check": check_stage()}
        if self._pairs:
            stages["proto"] = self._initial_responses(self._annotated, "proto.jsonl")
        if self._pairs and self._measures:
            stages["heldout-proto"] = self._heldout_responses()
        if self._measures:
            stages["evaluate-initial"] = self._evaluate_initial()
        if self._pairs:
            if self._config.iterations > 1:
                stages["generate"] = foreach(self._playing_items(), self._generate())
            items = self._triplet_items()
            # DVC has no lists of another length for each item of foreach.
            alone = {item["t"]: self._earlier(item["t"]) for item in items}
            stages["triplets"] = foreach(
                [item for item in items if not alone[item["t"]]], self._triplets()
            )
            for number, earlier in alone.items():
                if earlier:
                    stages[f"triplets-{number}"] = self._triplets(number, earlier)
        stages["train"] = foreach(self._items(0), self._train())
        if self._measures:
            stages["evaluate"] = foreach(self._items(0), self._evaluate())
        stages["finish"] = self._finish()
        return stages

    def plots(self) -> list[dict[str, Any]]:
        """Curves over iterations and over optimiser steps."""
        run = self._run
        curves: list[dict[str, Any]] = [curve("loss", "step", f"{run}/training.json")]
        if self._measures:
            metric = self._config.gate.metric.replace("/", ".")
            for name in dict.fromkeys((metric, "nll_per_token")):
                curves.append(curve(name, "iteration", f"{run}/iterations.json"))
        return curves

    def _items(self, first: int) -> list[dict[str, Any]]:
        items = []
        for number in range(first, self._config.iterations):
            before = f"{self._run}/iter-{number - 1}/model" if number else self._model
            item = self._item(number, "prev", before)
            if self._hub:
                item["watched"] = before if number else HUB_MODEL
            items.append(item)
        return items

    def _playing_items(self) -> list[dict[str, Any]]:
        """Each with the responses before it, where they may be drafts."""
        items = self._items(1)
        if self._drafts:
            before = ["proto.jsonl", *(f"iter-{item['t']}/synthetic.jsonl" for item in items)]
            for item, name in zip(items, before, strict=False):
                item["drafts"] = name
        return items

    def _item(self, number: int, name: str, path: str) -> dict[str, Any]:
        quoted = {} if self._plain else {"quoted": quote(path)}
        return {"t": number, name: path} | quoted

    def _triplet_items(self) -> list[dict[str, Any]]:
        """At iteration 0 the responses of the initial policy are y' as well."""
        own = (f"iter-{number}/synthetic.jsonl" for number in range(1, self._config.iterations))
        names = ("proto.jsonl", *own)
        return [self._item(t, "synthetic", f"{self._run}/{name}") for t, name in enumerate(names)]

    def _earlier(self, number: int) -> list[str]:
        """Responses of the policies between the first and this one, where they are trained on."""
        history = self._config.train.history_at(number)[1:]
        return [f"iter-{before}/synthetic.jsonl" for before in history]

    def _shown(self, name: str) -> str:
        """A path in the run folder as a command has it; a number of DVC's is no quoted text."""
        return f"{quote(self._run)}/{name}"

    def _heldout_responses(self) -> dict[str, Any]:
        """y0 is one response a prompt."""
        several = self._config.generate.samples > 1
        options = " --set generate.samples=1" if several else ""
        return self._initial_responses(self._heldout, "heldout_proto.jsonl", options)

    def _initial_responses(self, records: str, name: str, options: str = "") -> dict[str, Any]:
        return stage(
            f"generate --model {quote(self._model)} --annotated {quote(records)} "
            f"--out {self._shown(name)}{options}",
            deps=[self._initial, records, *self._template()],
            params=_SAMPLING,
            outs=with_manifest(f"{self._run}/{name}"),
        )

    def _generate(self) -> dict[str, Any]:
        out, drafts = f"{_ITERATION}/synthetic.jsonl", "${item.drafts}"
        draws = f" --drafts {self._shown(drafts)}" if self._drafts else ""
        return stage(
            f"generate --model {self._policy} --annotated {quote(self._annotated)} "
            f"--out {self._shown(out)} --iteration ${{item.t}}{draws}",
            deps=[
                self._previous,
                self._annotated,
                *([f"{self._run}/{drafts}"] if self._drafts else []),
                *self._template(),
            ],
            params=_SAMPLING,
            outs=with_manifest(f"{self._run}/{out}"),
        )

    def _triplets(self, number: int | None = None, earlier: list[str] | None = None) -> Any:
        """Of each item, or of one iteration whose method trains on earlier responses as well."""
        folder, proto, before = _ITERATION, "proto.jsonl", earlier or []
        responses, synthetic = self._responses, "${item.synthetic}"
        if number is not None:
            folder = f"iter-{number}"
            responses = self._shown(f"{folder}/synthetic.jsonl")
            synthetic = f"{self._run}/{folder}/synthetic.jsonl"
        out = f"{folder}/triplets.jsonl"
        return stage(
            f"build-triplets --annotated {quote(self._annotated)} --synthetic {responses} "
            f"--proto {self._shown(proto)} --out {self._shown(out)}"
            + "".join(f" --earlier {self._shown(name)}" for name in before),
            deps=[
                self._annotated,
                *with_manifest(synthetic),
                *with_manifest(f"{self._run}/{proto}"),
                *(path for name in before for path in with_manifest(f"{self._run}/{name}")),
            ],
            params=["triplets"],
            outs=with_manifest(f"{self._run}/{out}"),
        )

    def _train(self) -> dict[str, Any]:
        triplets, out = f"{_ITERATION}/triplets.jsonl", f"{_ITERATION}/model"
        examples = self._shown(triplets) if self._pairs else quote(self._annotated)
        watched = with_manifest(f"{self._run}/{triplets}") if self._pairs else [self._annotated]
        return stage(
            f"train --model {self._policy} --triplets {examples} --out {self._shown(out)} "
            "--iteration ${item.t}",
            deps=[self._previous, *watched, *self._template()],
            params=_TRAINING,
            outs=[
                *with_manifest(f"{self._run}/{out}"),
                f"{self._run}/{_ITERATION}/train_log.jsonl",
            ],
        )

    def _evaluate_initial(self) -> dict[str, Any]:
        out = "base/metrics.json"
        return stage(
            f"evaluate --model {quote(self._model)} --annotated {quote(self._heldout)} "
            f"--iteration -1 --out {self._shown(out)}",
            deps=[self._initial, self._heldout, *self._template(), *self._tasks()],
            params=[*_SAMPLING, "evaluate"],
            outs=self._answers(f"{self._run}/{out}"),
        )

    def _evaluate(self) -> dict[str, Any]:
        out, trained = f"{_ITERATION}/metrics.json", f"{_ITERATION}/model"
        proto = "heldout_proto.jsonl"
        compared = f" --proto {self._shown(proto)}" if self._pairs else ""
        watched = with_manifest(f"{self._run}/{proto}") if self._pairs else []
        return stage(
            f"evaluate --model {self._shown(trained)} --annotated {quote(self._heldout)} "
            f"--iteration ${{item.t}} --out {self._shown(out)}{compared}",
            deps=[
                f"{self._run}/{trained}",
                self._heldout,
                *watched,
                *self._template(),
                *self._tasks(),
            ],
            params=[*_SAMPLING, "evaluate"],
            outs=self._answers(f"{self._run}/{out}"),
        )

    def _template(self) -> list[str]:
        """The file of a chat template of one's own, where DVC can look at it."""
        file = self._config.prompt.chat_template
        return [file] if file and not is_remote(file) else []

    def _tasks(self) -> list[str]:
        """The folder of tasks of one's own, where DVC can look at it."""
        folder = self._config.evaluate.harness.task_folder
        used = self._config.evaluate.tasks and folder and not is_remote(folder)
        return [folder] if used and folder else []

    def _answers(self, out: str) -> list[str]:
        settings = self._config.evaluate
        kinds = ["greedy"] + (["sampled"] if settings.sampled else [])
        kinds += ["fitted"] if settings.sampled and settings.fit_temperature else []
        stem = out.removesuffix(".json")
        return [*with_manifest(out), *(f"{stem}.{kind}.jsonl" for kind in kinds)]

    def _finish(self) -> dict[str, Any]:
        run, numbers = self._run, range(self._config.iterations)
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
            outs=[f"{run}/{name}" for name in (*names, "report.html", "summary.md")],
            metrics=[f"{run}/values/{label}.json" for label in labels],
        )
