"""A sharded policy by itself: how exact it is, how much memory it takes, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed
from test_architectures import build
from tiny_models import make_batch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests import warm
from tspin.config import ModelConfig
from tspin.forward.logprobs import response_logps
from tspin.models.policy import load_policy
from tspin.models.sharding import Sharding, load_sharded
from tspin.processes.group import wait_for_all

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def join(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=Path(rendezvous).as_uri(), rank=rank, world_size=2
    )


def logps_of(policy: torch.nn.Module, *, autocast: bool) -> Tensor:
    batch = make_batch(rows=24, length=120)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast):
        return response_logps(policy, batch, chunk_size=64)[0].double()


def errors_of_one(rank: int, rendezvous: str, model: str) -> None:
    """Leave what sums of log-probabilities are off by, against float64."""
    join(rank, rendezvous)
    config = ModelConfig(path=model, dtype="bfloat16")

    def load(*, empty: bool = False) -> torch.nn.Module:
        return load_policy(model, config, device=CPU, trainable=True, empty=empty)

    whole = load()
    exact = logps_of(load().double(), autocast=False)
    sharded = load_sharded(
        lambda empty: load(empty=empty), Sharding(CPU, bfloat16=True), wait_for_all
    )
    errors = {
        "autocast": (logps_of(whole, autocast=True) - exact).square().mean().sqrt().item(),
        "sharded": (logps_of(sharded, autocast=True) - exact).square().mean().sqrt().item(),
    }
    if rank == 0:
        Path(f"{rendezvous}.json").write_text(json.dumps(errors))


def test_log_probabilities_are_as_exact_as_under_autocast(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    deep = build("llama", {"num_hidden_layers": 16, "hidden_size": 64, "initializer_range": 0.08})
    with torch.no_grad():
        # As in trained models, each layer adds little to what is there: what that loses shows.
        deep.get_input_embeddings().weight *= 20
    deep.save_pretrained(tmp_path / "model")
    rendezvous = tmp_path / "rendezvous"
    warm.spawn(errors_of_one, str(rendezvous), str(tmp_path / "model"), processes=2)
    errors = json.loads(rendezvous.with_suffix(".json").read_text())
    assert errors["sharded"] < 1.3 * errors["autocast"]
