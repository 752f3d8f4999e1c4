"""What `tspin deploy` writes: valid, restricted, pinned to a champion, changed by a rollback."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from custom import SCHEMAS, Metadata
from custom.kserve import predictor_pod
from pydantic import ValidationError
from restricted import house_violations, violations
from served_models import champion, deploy, on_claim, profile
from typer.testing import CliRunner

from tests.s3_server import s3_bucket
from tspin.errors import InputError, TspinError
from tspin.registry import Registry, rollback
from tspin_pipelines.serving.commands import app

TARGETS = ("kserve", "inferenceservice", "vllm")
VERSION = kubernetes_validate.latest_version()
Document = dict[str, Any]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Two champions with weights of their own; the second has a fitted temperature."""
    champion(tmp_path, tmp_path / "registry", 1)
    champion(tmp_path, tmp_path / "registry", 2, temperature=0.28125)
    return tmp_path / "registry"


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    champion(tmp_path, tmp_path / "adapters", 1, adapter=True, revision="abc")
    champion(tmp_path, tmp_path / "adapters", 2, adapter=True, temperature=0.5)
    return tmp_path / "adapters"


def pods(documents: list[Document]) -> list[Document]:
    """The spec of each pod, as far as it is given."""
    found = []
    for document in documents:
        spec = document["spec"]
        if document["kind"] == "Deployment":
            found.append(spec["template"]["spec"])
        elif document["kind"] == "LLMInferenceService":
            found.append(spec["template"])
        elif document["kind"] == "InferenceService":
            predictors = [spec["predictor"], *(one["predictor"] for one in spec.get("canary", []))]
            found += [predictor_pod(predictor) for predictor in predictors]
    return found


def server(pod: Document) -> Document:
    return next(c for c in pod["containers"] if c["name"] in ("main", "vllm", "kserve-container"))


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def check(document: Document) -> None:
    """Against Kubernetes' own schema, or ours of KServe's."""
    schema = SCHEMAS.get((document["apiVersion"], document["kind"]))
    if schema is None:
        kubernetes_validate.validate(document, VERSION, strict=True)
    else:
        Metadata.model_validate(document["metadata"])
        schema.model_validate(document["spec"])


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", ["eks-l4-spot", "onprem"])
def test_the_documents_are_valid_and_their_pods_restricted(
    tmp_path: Path, adapters: Path, name: str, to: str
) -> None:
    path = on_claim(tmp_path, name, ca_bundle="house-ca", proxy="house-proxy")
    documents = deploy(adapters, to, path, "--canary", 20, "--replicas", 5)
    for document in documents:
        check(document)
    stage = profile(path).stages.generate
    for pod in pods(documents):
        whole = copy.deepcopy(pod)
        if to == "kserve":  # Its preset brings what is missing.
            whole["initContainers"], whole["containers"] = [], [server(whole)]
        else:
            assert house_violations(pod) == []
        template = {"metadata": {"labels": {"a": "b"}}, "spec": whole}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "whole"}}
        kubernetes_validate.validate(head | {"spec": spec}, VERSION, strict=True)
        assert violations(whole) == []
        assert pod["nodeSelector"] == stage.node_selector
        assert [one["key"] for one in pod["tolerations"]] == [t.key for t in stage.tolerations]
        assert server(pod)["resources"]["limits"] == {
            "cpu": stage.cpu.limit,
            "memory": stage.memory.limit,
            "nvidia.com/gpu": "1",
        }
        assert "latest" not in server(pod)["image"]
        secrets = [v for c in pod["initContainers"] for v in c["env"] if "SECRET" in v["name"]]
        assert all("secretKeyRef" in one["valueFrom"] for one in secrets)
        assert bool(secrets) == (name == "onprem")


def test_a_misspelt_field_is_found(tmp_path: Path, registry: Path) -> None:
    (service, _) = deploy(registry, "kserve", on_claim(tmp_path))
    service["spec"]["router"]["route"]["wait"] = 1
    with pytest.raises(ValidationError, match="wait"):
        check(service)


def test_an_adapter_is_served_as_it_was_measured(tmp_path: Path, adapters: Path) -> None:
    path = on_claim(tmp_path)
    config = tmp_path / "run.yaml"
    keywords = {"enable_thinking": False}
    settings = {"chat_template_kwargs": keywords, "max_length": 512}
    config.write_text(
        yaml.safe_dump(
            {"run_dir": "r", "model": {"path": "m"}, "data": {"annotated": "a"}, "prompt": settings}
            | {"generate": {"max_new_tokens": 64}}
        )
    )
    further = ["--config", config, "--arg=--enforce-eager"]
    (pod,) = pods(deploy(adapters, "vllm", path, "--number", 1, *further))
    arguments = server(pod)["args"]
    inside = option(pod["initContainers"][0]["args"], "--out")
    assert option(arguments, "--model") == "org/base"
    assert option(arguments, "--revision") == "abc"
    assert option(arguments, "--lora-modules") == f"tspin={inside}"
    assert option(arguments, "--max-lora-rank") == "32"
    assert option(arguments, "--dtype") == "bfloat16"
    assert option(arguments, "--generation-config") == inside
    assert option(arguments, "--chat-template") == f"{inside}/chat_template.jinja"
    assert json.loads(option(arguments, "--default-chat-template-kwargs")) == keywords
    assert option(arguments, "--max-model-len") == "512"
    assert "--enforce-eager" in arguments
    # A penalty that no evaluation applied is taken away; what nobody fitted stays.
    override = "--override-generation-config"
    assert json.loads(option(arguments, override)) == {"repetition_penalty": None}
    (pod,) = pods(deploy(adapters, "vllm", path))
    assert json.loads(option(server(pod)["args"], override)) == {
        "repetition_penalty": None,
        "temperature": 0.5,
        "top_p": None,
    }


def test_kserve_gets_the_base_and_the_adapter(tmp_path: Path, adapters: Path) -> None:
    (service, policy) = deploy(adapters, "kserve", on_claim(tmp_path))
    model = service["metadata"]["annotations"]["tspin.io/model"]
    uri = f"pvc://tspin-cache/adapters/models/{model}"
    lora = {"adapters": [{"name": "tspin", "uri": uri}], "maxRank": 32}
    assert service["spec"]["model"] == {"uri": "hf://org/base", "name": "tspin-base", "lora": lora}
    selector = policy["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= service["spec"]["labels"].items()


def test_kserve_gets_the_image_that_was_made_of_the_champion(
    tmp_path: Path, registry: Path
) -> None:
    path = on_claim(tmp_path)
    with pytest.raises(InputError, match=r"no image was made of champion 2; tspin export"):
        deploy(registry, "kserve", path, "--oci")
    opened = Registry(str(registry))
    image = f"registry.test/team/model@sha256:{'a' * 64}"
    opened.images.add(opened.find(), image)
    documents = deploy(registry, "kserve", path, "--oci")
    for document in documents:
        check(document)
    assert documents[0]["spec"]["model"]["uri"] == f"oci://{image}"
    assert "initContainers" not in documents[0]["spec"]["template"]
    with pytest.raises(InputError, match="--to kserve"):
        deploy(registry, "vllm", path, "--oci")


def test_kserve_takes_no_adapter_from_an_image(tmp_path: Path, adapters: Path) -> None:
    opened = Registry(str(adapters))
    opened.images.add(opened.find(), f"registry.test/team/model@sha256:{'a' * 64}")
    with pytest.raises(InputError, match="export it with --merge"):
        deploy(adapters, "kserve", on_claim(tmp_path), "--oci")


def test_a_shell_hands_kserves_arguments_on_as_they_are(tmp_path: Path, adapters: Path) -> None:
    (service, _) = deploy(adapters, "kserve", on_claim(tmp_path), "--arg", "--x={'a b': $HOME}")
    arguments = server(service["spec"]["template"])["args"]
    # The last lines of KServe's preset, which has a shell read its arguments twice.
    command = ["bash", "-c", "eval \"printf '%s\\n' $@\"", "--", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [part for text in arguments for part in shlex.split(text)]
    assert "--x={'a b': $HOME}" in done.stdout
    with pytest.raises(InputError, match="KServe reads"):
        deploy(adapters, "kserve", on_claim(tmp_path), "--arg", "--x={{1}}")


@pytest.mark.parametrize("to", TARGETS)
def test_a_rollback_is_another_manifest_and_back_again(
    tmp_path: Path, registry: Path, to: str
) -> None:
    path = on_claim(tmp_path)
    first = deploy(registry, to, path, "--number", 1)
    today = deploy(registry, to, path)
    rollback(str(registry))
    after = deploy(registry, to, path)
    assert after != today
    # All of a pod is the first champion's again, so that nothing that runs it is begun anew.
    assert after[0]["spec"] == first[0]["spec"]
    assert after[0]["metadata"]["annotations"].pop("tspin.io/champion") == "3"
    assert first[0]["metadata"]["annotations"].pop("tspin.io/champion") == "1"
    assert after == first
    hashes = [one[0]["metadata"]["annotations"]["tspin.io/model"] for one in (first, today)]
    assert str(first).replace(hashes[0][:12], "") != str(today).replace(hashes[1][:12], "")


def test_a_canary_shares_pods_or_requests(tmp_path: Path, registry: Path) -> None:
    path = on_claim(tmp_path)
    stable, service, _, canary, alone = deploy(
        registry, "vllm", path, "--canary", 10, "--replicas", 10
    )
    assert (stable["spec"]["replicas"], canary["spec"]["replicas"]) == (9, 1)
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in (stable, canary)]
    assert all(service["spec"]["selector"].items() <= one.items() for one in labels)
    reached = [alone["spec"]["selector"].items() <= one.items() for one in labels]
    assert reached == [False, True]
    assert stable["spec"]["selector"] != canary["spec"]["selector"]

    stable, canary, _ = deploy(registry, "kserve", path, "--canary", 10, "--replicas", 3)
    numbers = [one["metadata"]["annotations"]["tspin.io/champion"] for one in (stable, canary)]
    assert numbers == ["1", "2"]
    assert [one["spec"]["router"]["route"] for one in (stable, canary)] == [
        {"group": "tspin", "weight": 90},
        {"group": "tspin", "weight": 10},
    ]
    assert [one["spec"]["replicas"] for one in (stable, canary)] == [3, 1]


def test_an_inference_service_has_its_canary_inside(tmp_path: Path) -> None:
    with s3_bucket() as bucket:
        for seed in (1, 2):
            champion(tmp_path, f"{bucket}/registry", seed)
        path = on_claim(tmp_path)
        (service, _) = deploy(f"{bucket}/registry", "inferenceservice", path, "--canary", 5)
        check(service)
        (canary,) = service["spec"]["canary"]
        model = canary["predictor"]["annotations"]["tspin.io/model"]
        (llm, _) = deploy(f"{bucket}/registry", "kserve", path)
        assert llm["spec"]["model"]["uri"] == f"{bucket}/registry/models/{model}"
    assert canary["trafficPercent"] == 5
    known = {"name": "STORAGE_URI", "value": f"{bucket}/registry/models/{model}"}
    assert known in canary["predictor"]["containers"][0]["env"]


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("vllm", ["--canary", 10], r"no whole pod.*--replicas 10 is"),
        ("vllm", ["--number", 7], "there is no champion of number 7"),
        ("kserve", ["--number", 1, "--canary", 10], "has no champion before it"),
        ("vllm", ["--image", "vllm/vllm-openai:latest"], "a tag that stays"),
        ("vllm", ["--image", "vllm/vllm-openai"], "a tag that stays"),
        ("vllm", ["--name", "T"], "small letters"),
        ("vllm", ["--set", "prompt.max_length=9"], "name it with --config"),
    ],
)
def test_what_is_asked_for_in_vain(
    tmp_path: Path, registry: Path, to: str, options: list[object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        deploy(registry, to, on_claim(tmp_path), *options)


@pytest.mark.parametrize("to", TARGETS)
def test_a_folder_that_no_pod_sees_is_refused(tmp_path: Path, registry: Path, to: str) -> None:
    with pytest.raises(InputError, match="a folder that no pod sees"):
        deploy(registry, to, Path("eks-l4-spot"))


def test_a_base_that_no_pod_finds_is_refused(tmp_path: Path) -> None:
    registry, path = tmp_path / "registry", on_claim(tmp_path)
    champion(tmp_path, registry, 1, adapter=True, base="/home/me/base")
    with pytest.raises(InputError, match=r"'/home/me/base', which no pod finds.*--base"):
        deploy(registry, "vllm", path)
    with pytest.raises(InputError, match="loads no base from there"):
        deploy(registry, "vllm", path, "--base", "s3://bucket/base")
    (service, _) = deploy(registry, "kserve", path, "--base", "s3://bucket/base")
    assert service["spec"]["model"]["uri"] == "s3://bucket/base"
    (pod,) = pods(deploy(registry, "vllm", path, "--base", "pvc://bases/a/b"))
    mount = next(m for m in server(pod)["volumeMounts"] if m["name"] == "base")
    assert (mount["subPath"], option(server(pod)["args"], "--model")) == ("a/b", "/base")
    (pod,) = pods(deploy(registry, "vllm", path, "--base", f"{tmp_path}/base"))
    assert option(server(pod)["args"], "--model") == f"{tmp_path}/base"


@pytest.mark.parametrize(
    ("described", "message"),
    [({"peft_type": "LOHA"}, "only LORA is supported"), ({"r": 1024}, "rank is 1024")],
)
def test_an_adapter_that_vllm_does_not_serve(
    tmp_path: Path, described: dict[str, Any], message: str
) -> None:
    champion(tmp_path, tmp_path / "registry", 1, adapter=True, **described)
    with pytest.raises(InputError, match=message):
        deploy(tmp_path / "registry", "vllm", on_claim(tmp_path))


def test_an_adapter_and_full_weights_share_no_names(tmp_path: Path) -> None:
    registry, path = tmp_path / "registry", on_claim(tmp_path)
    champion(tmp_path, registry, 1)
    champion(tmp_path, registry, 2, adapter=True)
    with pytest.raises(InputError, match="one of the two champions is an adapter"):
        deploy(registry, "kserve", path, "--canary", 10)
    assert len(deploy(registry, "vllm", path, "--canary", 50, "--replicas", 2)) == 5


def test_a_profile_without_vllm_wants_an_image(tmp_path: Path, registry: Path) -> None:
    path = on_claim(tmp_path, "cpu")
    with pytest.raises(InputError, match="name one that has with --image"):
        deploy(registry, "vllm", path)
    image = "vllm/vllm-openai-cpu:v0.32.0"
    (pod,) = pods(deploy(registry, "vllm", path, "--image", image))
    assert server(pod)["image"] == image


def test_what_was_changed_in_the_registry_is_served_nowhere(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    record = champion(tmp_path, registry, 1, adapter=True)
    (registry / "models" / record.model / "generation_config.json").write_text("{}")
    with pytest.raises(TspinError, match=r"generation_config\.json: is not what was put in"):
        deploy(registry, "vllm", on_claim(tmp_path))


def test_a_file_appears_whole_and_replaces_only_its_own_kind(
    tmp_path: Path, registry: Path
) -> None:
    path, out = on_claim(tmp_path), tmp_path / "served.yaml"
    printed = deploy(registry, "vllm", path)
    asked = ["--registry", registry, "--to", "vllm", "--profile", path, "--out", out]
    for _ in range(2):
        done = CliRunner().invoke(app, [str(one) for one in asked], catch_exceptions=False)
        assert list(yaml.safe_load_all(out.read_text())) == printed
        assert done.stdout == ""
    out.write_text("mine")
    assert isinstance(CliRunner().invoke(app, [str(one) for one in asked]).exception, InputError)
    assert out.read_text() == "mine"
