"""The library's steps as lightweight components.

Every artifact is a folder that holds the output under a fixed name and its manifest beside it:
an artifact of Kubeflow is a single path, and a step refuses inputs without matching manifests.
No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from kfp import dsl

__all__ = ["build_triplets", "evaluate", "generate", "import_data", "train"]

_IMAGE = "tspin/cpu:0.1.0"
"""Replaced by the image of the stage when a pipeline is compiled for a profile."""


@dsl.component(base_image=_IMAGE, install_kfp_package=False)
def import_data(source: str, data: dsl.Output[dsl.Dataset]) -> None:
    """Copy annotated records (JSON Lines) that the pod can read into an artifact: data.jsonl."""
    import shutil
    from pathlib import Path

    from tspin.errors import InputError
    from tspin.manifest import content_hash

    if not Path(source).is_file():
        raise InputError(f"{source}: no such file; expected annotated records (JSON Lines)")
    out = Path(data.path) / "data.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, out)
    data.metadata.update({"sha256": content_hash(out), "bytes": out.stat().st_size})


@dsl.component(base_image=_IMAGE, install_kfp_package=False)
def generate(
    config: str,
    model: str,
    iteration: int,
    annotated: dsl.Input[dsl.Dataset],
    responses: dsl.Output[dsl.Dataset],
) -> None:
    """Sample a response of `model` to every prompt: responses.jsonl."""
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.generate import generate as step

    out = Path(responses.path) / "responses.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    made = step(
        RunConfig.model_validate_json(config),
        model=model,
        annotated=Path(annotated.path) / "data.jsonl",
        out=out,
        iteration=int(iteration),
    )
    responses.metadata.update({"sha256": made.sha256, "bytes": out.stat().st_size})
    responses.metadata.update({"iteration": int(iteration), "manifest": made.model_dump_json()})


@dsl.component(base_image=_IMAGE, install_kfp_package=False)
def build_triplets(
    config: str,
    annotated: dsl.Input[dsl.Dataset],
    synthetic: dsl.Input[dsl.Dataset],
    proto: dsl.Input[dsl.Dataset],
    triplets: dsl.Output[dsl.Dataset],
) -> None:
    """Join annotated, synthetic and proto-synthetic responses: triplets.jsonl."""
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.triplets import build_triplets as step

    out = Path(triplets.path) / "triplets.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    made = step(
        RunConfig.model_validate_json(config).triplets,
        annotated=Path(annotated.path) / "data.jsonl",
        synthetic=Path(synthetic.path) / "responses.jsonl",
        proto=Path(proto.path) / "responses.jsonl",
        out=out,
    )
    triplets.metadata.update({"sha256": made.sha256, "bytes": out.stat().st_size})
    triplets.metadata.update({"iteration": made.iteration, "manifest": made.model_dump_json()})


@dsl.component(base_image=_IMAGE, install_kfp_package=False)
def train(
    config: str,
    model: str,
    iteration: int,
    checkpoints: str,
    triplets: dsl.Input[dsl.Dataset],
    policy: dsl.Output[dsl.Model],
) -> None:
    """Train the next policy from `model`: folder model; checkpoints '' keeps them in the pod."""
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.train import train as step

    out = Path(policy.path) / "model"
    out.parent.mkdir(parents=True, exist_ok=True)
    made = step(
        RunConfig.model_validate_json(config),
        model=model,
        triplets=Path(triplets.path) / "triplets.jsonl",
        iteration=int(iteration),
        out=out,
        checkpoints=Path(checkpoints) if checkpoints else None,
    )
    policy.metadata.update({"sha256": made.sha256, "iteration": int(iteration)})
    policy.metadata["manifest"] = made.model_dump_json()


@dsl.component(base_image=_IMAGE, install_kfp_package=False)
def evaluate(
    config: str,
    model: str,
    iteration: int,
    heldout: dsl.Input[dsl.Dataset],
    folder: dsl.Output[dsl.Artifact],
    scalars: dsl.Output[dsl.Metrics],
) -> None:
    """Measure `model` on held-out records: metrics.json, and its values as scalars."""
    import json
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.evaluate import evaluate as step

    out = Path(folder.path) / "metrics.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    step(
        RunConfig.model_validate_json(config),
        model=model,
        annotated=Path(heldout.path) / "data.jsonl",
        out=out,
        proto=None,
        iteration=int(iteration),
    )
    found = json.loads(out.read_bytes())["metrics"]
    for name, metric in found.items():
        if isinstance(metric.get("value"), int | float):
            scalars.log_metric(name, metric["value"])
    folder.metadata.update({"iteration": int(iteration), "bytes": out.stat().st_size})
    # A Metrics output whose path stays empty is never cached by kfp.local.
    Path(scalars.path).write_text(json.dumps(found))
