import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import PROFILES, load_profile, profile_names
from tspin_pipelines.profiles.quantity import in_units

ROLES = ("generate", "train", "evaluate", "cpu")


@pytest.fixture
def changed(tmp_path: Path):
    """Writes a shipped profile with one value set (dotted path) and returns its file."""

    def change(name: str, path: str, value: object) -> Path:
        content = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
        *parents, last = path.split(".")
        place = content
        for key in parents:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
        file = tmp_path / "profile.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return change


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_load(name: str) -> None:
    profile = load_profile(name)
    for stage in (profile.stages.generate, profile.stages.train, profile.stages.evaluate):
        assert stage.image == "cpu" or stage.accelerator is not None
        assert stage.retry.limit > 0


def test_the_profiles_that_are_promised() -> None:
    assert profile_names() == ["aks-a100", "cpu", "eks-l4-spot", "gke-h100", "onprem"]


def test_images_are_named_by_role() -> None:
    profile = load_profile("onprem")
    assert profile.image(profile.stages.train) == "registry.example.internal/tspin/train:0.1.0"
    assert profile.image(profile.stages.light) == "registry.example.internal/tspin/cpu:0.1.0"


def test_an_image_with_a_digest_is_pulled_by_it(changed) -> None:
    digests = {role: f"sha256:{role[0].encode().hex() * 32}" for role in ROLES}
    profile = load_profile(str(changed("onprem", "images.digests", digests)))
    name = "registry.example.internal/tspin/generate:0.1.0"
    assert profile.image(profile.stages.generate) == f"{name}@{digests['generate']}"
    del digests["cpu"]
    with pytest.raises(InputError, match=r"images.digests names none for cpu"):
        load_profile(str(changed("onprem", "images.digests", digests)))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("stages.train.node_selektor", {}, "did you mean 'node_selector'?"),
        ("stages.train.retry.limits", 3, "did you mean 'limit'?"),
        ("stages.train.retry.factor", 1.5, "'stages.train.retry.factor' is 1.5"),
        ("stages.train.tolerations", [{"keys": "a"}], "did you mean 'key'?"),
        ("stages.training", {}, "did you mean 'train'?"),
        ("queues", "tspin", "did you mean 'queue'?"),
        ("stages.train.accelerator", None, "image 'train' with no accelerator"),
        ("stages.train.image", "cpu", "image 'cpu' with 8 GPUs"),
        ("stages.light.image", "train", "image 'train' with no accelerator"),
        ("stages.train.accelerator.count", 0, "'stages.train.accelerator.count' is 0"),
        ("stages.train.shared_memory", None, "several GPUs need shared_memory"),
        ("stages.train.shared_memory", "2Ti", "fills memory's limit"),
        ("stages.train.memory", {"request": "2Ti", "limit": "1Ti"}, "request 2Ti is above"),
        ("stages.train.memory", {"request": "1 GB", "limit": "1Ti"}, "not a Kubernetes quantity"),
        ("stages.train.tolerations", [{"key": "a"}], "has a value with operator Equal"),
        ("stages.train.affinity", {"required": [{"key": "a"}]}, "operator In does not go with"),
        ("queue", None, "stages.generate.priority is an order in a queue; name the queue"),
        ("queue", "TSPIN", "'queue' is 'TSPIN'"),
        ("pod_labels", {"team": "a b"}, "'pod_labels.team' is 'a b'"),
        ("stages.train.node_selector", {"pool": "x" * 64}, "'stages.train.node_selector.pool' is"),
        ("stages.train.env", {"1st": "x"}, "stages.train.env"),
        ("stages.train.timeout_seconds", None, "'stages.train.timeout_seconds' is missing"),
        ("stages.generate.nodes", 2, "only training spans nodes"),
        ("images.tag", "latest", "name a version"),
        ("images.digests", {"train": "sha256:abc"}, "'images.digests.train' is 'sha256:abc'"),
        ("images.digests", {"trian": f"sha256:{'ab' * 32}"}, "images.digests"),
        ("overlay", "digitalocean", "'gke', 'eks', 'aks', 'onprem' or 'kind-cpu'"),
    ],
)
def test_wrong_profiles(changed, path: str, value: object, expected: str) -> None:
    file = changed("gke-h100", path, value)
    with pytest.raises(InputError) as raised:
        load_profile(str(file))
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"{file}")


def test_light_steps_take_no_gpu(changed) -> None:
    light = yaml.safe_load((PROFILES / "gke-h100.yaml").read_text())["stages"]["evaluate"]
    with pytest.raises(InputError, match=r"stages.light asks for an accelerator"):
        load_profile(str(changed("gke-h100", "stages.light", light)))


def test_several_nodes_need_a_training_runtime(changed, tmp_path: Path) -> None:
    file = changed("gke-h100", "stages.train.nodes", 2)
    assert load_profile(str(file)).stages.train.nodes == 2
    content = yaml.safe_load(file.read_text())
    del content["training_runtime"]
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"stages.train.nodes is 2, which needs training_runtime"):
        load_profile(str(file))


def test_an_error_in_a_list_names_its_line(tmp_path: Path) -> None:
    lines = (PROFILES / "onprem.yaml").read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if "value: tspin-train" in line)
    lines[number] = lines[number].replace("value:", "valeu:")
    file = tmp_path / "mine.yaml"
    file.write_text("".join(lines))
    with pytest.raises(InputError) as raised:
        load_profile(str(file))
    message = str(raised.value)
    assert message.splitlines()[0].startswith(f"{file}:{number + 1}: unknown key ")
    assert "did you mean 'value'?" in message


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"unknown profile 'eks-l4'; .* did you mean 'eks-l4-spot'"
    ):
        load_profile("eks-l4")
    with pytest.raises(InputError, match=r"unknown profile 'nowhere.yaml'"):
        load_profile("nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "expected"), [("500m", "0.5"), ("4", 4), ("64Gi", 64 * 2**30), ("1.5G", 1.5e9)]
)
def test_quantities(text: str, expected: object) -> None:
    assert float(in_units(text)) == float(expected)


def test_profiles_load_without_torch_or_kfp() -> None:
    code = (
        "import sys; from tspin_pipelines.profiles.profile import load_profile;"
        "load_profile('cpu');"
        "sys.exit(bool({'torch', 'kfp', 'kubernetes'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROFILES.parents[1]).returncode == 0


@pytest.mark.parametrize(
    ("name", "processes", "threads"),
    # The least of what generation, evaluation and each process of the training are promised.
    [("cpu", "auto", 1), ("gke-h100", "auto", 20), ("gke-h100", 40, 4), ("onprem", "auto", 8)],
)
def test_all_stages_compute_with_the_threads_that_each_has_cores_for(
    name: str, processes: object, threads: int
) -> None:
    config = RunConfig.model_validate(
        {
            "run_dir": "r",
            "model": {"path": "m"},
            "data": {"annotated": "a"},
            "system": {"num_processes": processes},
        }
    )
    plan = Plan(config, load_profile(name))
    assert json.loads(plan.config_json())["system"]["threads"] == threads
    asked = config.model_copy(update={"system": config.system.model_copy(update={"threads": 3})})
    assert json.loads(Plan(asked, plan.profile).config_json())["system"]["threads"] == 3


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ("https://registry.example.com/tspin", "no scheme 'https://'; write registry.example.com"),
        ("docker://registry.example.com/tspin", "no scheme 'docker://'"),
        ("registry.example.com//tspin", "an empty part"),
    ],
)
def test_a_registry_of_images_is_no_address(changed, registry: str, message: str) -> None:
    with pytest.raises(InputError, match=f"'images.registry' is .*{message}"):
        load_profile(str(changed("cpu", "images.registry", registry)))


@pytest.mark.parametrize("name", [n for n in profile_names() if n != "cpu"])
def test_only_the_promotion_has_the_keys_that_write_champions(name: str) -> None:
    stages = load_profile(name).stages
    for stage in type(stages).model_fields:
        mounted = [secret.name for secret in getattr(stages, stage).secrets]
        assert ("tspin-promoter" in mounted) == (stage == "promote")
    assert [secret.name for secret in stages.promote.secrets] == ["tspin-promoter"]


def test_a_profile_without_that_stage_promotes_where_light_runs() -> None:
    stages = load_profile("cpu").stages
    assert stages.promote == stages.light
