"""What vLLM's server samples at by default is what `tspin export` and the registry say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tspin.cli.main import app
from tspin.records.records import AnnotatedRecord, Message, write_records


def test_the_server_samples_at_the_fitted_temperature(base: Path, tmp_path: Path) -> None:
    run, out, data = tmp_path / "run", tmp_path / "exported", tmp_path / "annotated.jsonl"
    write_records(
        data,
        (
            AnnotatedRecord(
                id=f"r{i}",
                messages=[Message(role="user", content=f"{i} and {i}?")],
                response=f"{2 * i}",
            )
            for i in range(12)
        ),
    )
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run_dir: {run}\niterations: 1\nmodel: {{path: {base}}}\n"
        f"data: {{annotated: {data}, heldout: {data}}}\n"
        "prompt: {max_length: 128}\nevaluate: {fit_temperature: true}\n"
        "generate: {engine: transformers, max_new_tokens: 6}\n"
        "train: {method: sft, learning_rate: 1.0e-3, global_batch_size: 4}\nsystem: {device: cpu}\n"
    )
    for arguments in (["run", "--config", config], ["export", run, "--out", out, "--iteration", 0]):
        ran = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
    metrics = json.loads((run / "iter-0/metrics.json").read_bytes())["metrics"]
    fitted = metrics["temperature/fitted"]["value"]

    def defaults(model: Path, **given: Any) -> dict[str, Any]:
        from vllm.config import ModelConfig

        return ModelConfig(model=str(model), **given).get_diff_sampling_param()

    assert defaults(out)["temperature"] == fitted
    assert defaults(out)["top_p"] == 1.0
    unfitted = run / "iter-0/model"
    assert "temperature" not in defaults(unfitted)
    override = {"temperature": fitted}
    assert defaults(unfitted, override_generation_config=override)["temperature"] == fitted
