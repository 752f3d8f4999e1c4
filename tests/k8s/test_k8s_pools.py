"""Every stage of every profile lands on a pool that is there, and on the right one."""

import itertools
import subprocess

import pytest
from node_pools import MACHINES, Pool, calls, gcloud_pool, pools
from rendered import K8S, named, names, of_kind, overlay

from tspin_cluster.placement import Match, Toleration
from tspin_pipelines.profiles.profile import Profile, load_profile, profile_names
from tspin_pipelines.profiles.quantity import in_units
from tspin_pipelines.profiles.stage import Stage

GIB = 2**30
GPU_STAGES = ("generate", "train", "evaluate")
GPU_PROFILES = [name for name in profile_names() if name != "cpu"]
ORDINARY = Pool("ordinary", {}, frozenset(), "", (), False, 1)


def tolerates(toleration: Toleration, taint: tuple[str, str, str]) -> bool:
    key, value, effect = taint
    same = toleration.operator == "Exists" or toleration.value == value
    return toleration.key == key and toleration.effect == effect and same


def holds(match: Match, labels: dict[str, str]) -> bool:
    there = match.key in labels
    if match.operator in ("Exists", "DoesNotExist"):
        return there == (match.operator == "Exists")
    if match.operator in ("In", "NotIn"):
        return (labels.get(match.key) in match.values) == (match.operator == "In")
    raise AssertionError(f"no profile uses {match.operator}")


def schedules(stage: Stage, pool: Pool) -> bool:
    """What the Kubernetes scheduler would ask, but for free resources."""
    return (
        stage.node_selector.items() <= pool.labels.items()
        and all(holds(match, pool.labels) for match in stage.affinity.required)
        and all(any(tolerates(t, taint) for t in stage.tolerations) for taint in pool.taints)
    )


def pools_of(profile: Profile, stage: str) -> list[Pool]:
    return [p for p in pools(profile.overlay) if schedules(getattr(profile.stages, stage), p)]


@pytest.mark.parametrize("stage", GPU_STAGES)
@pytest.mark.parametrize("name", GPU_PROFILES)
def test_each_gpu_stage_has_one_pool_with_its_gpus(name: str, stage: str) -> None:
    profile = load_profile(name)
    accelerator = getattr(profile.stages, stage).accelerator
    (pool,) = pools_of(profile, stage)
    assert accelerator is not None
    assert accelerator.resource == "nvidia.com/gpu"
    assert accelerator.product == pool.product
    assert all(accelerator.count <= MACHINES[machine][2] for machine in pool.machines)
    assert ("spot" in name) <= pool.spot


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_generate_train_and_evaluate_have_pools_of_their_own(name: str) -> None:
    profile = load_profile(name)
    assert len({pools_of(profile, stage)[0].name for stage in GPU_STAGES}) == 3


@pytest.mark.parametrize("name", profile_names())
def test_light_steps_stay_off_the_gpu_pools(name: str) -> None:
    profile = load_profile(name)
    light = profile.stages.light
    assert schedules(light, ORDINARY)
    assert not pools_of(profile, "light")
    untainted = [
        Pool(p.name, p.labels, frozenset(), "", (), False, 0) for p in pools(profile.overlay)
    ]
    assert not any(schedules(light, pool) for pool in untainted)


@pytest.mark.parametrize("name", ["eks", "gke", "aks", "onprem"])
def test_pods_of_others_stay_off(name: str) -> None:
    cpu = load_profile("cpu").stages.light
    assert not any(schedules(cpu, pool) for pool in pools(name))


@pytest.mark.parametrize("stage", GPU_STAGES)
@pytest.mark.parametrize("name", GPU_PROFILES)
def test_a_stage_fits_the_smallest_machine_of_its_pool(name: str, stage: str) -> None:
    profile = load_profile(name)
    wanted = getattr(profile.stages, stage)
    (pool,) = pools_of(profile, stage)
    for machine in pool.machines:
        cores, memory, _ = MACHINES[machine]
        # Kubelet, system and DaemonSets keep up to 6% of the cores and 8% of the memory.
        assert float(in_units(wanted.cpu.request)) <= cores * 0.94, machine
        assert float(in_units(wanted.memory.request)) <= memory * GIB * 0.92, machine
        assert float(in_units(wanted.memory.limit)) <= memory * GIB * 0.92, machine


@pytest.mark.parametrize("name", ["eks", "gke", "aks"])
def test_pools_scale_to_zero_and_come_as_spot_and_on_demand(name: str) -> None:
    assert {pool.minimum for pool in pools(name)} == {0}
    assert {pool.spot for pool in pools(name)} == {True, False}


@pytest.mark.parametrize("name", ["eks", "gke", "aks", "onprem"])
def test_no_two_pools_are_alike(name: str) -> None:
    for one, other in itertools.combinations(pools(name), 2):
        assert one.labels != other.labels, (one.name, other.name)


def test_gcloud_makes_the_pools_of_the_compute_classes() -> None:
    made = [
        gcloud_pool(call)
        for call in calls("gke/create.sh", "gcloud", "project", "cluster", "region", "zone")
    ]
    assert sorted(made, key=lambda pool: pool.name) == sorted(
        pools("gke"), key=lambda pool: pool.name
    )


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_queues_know_the_pools(name: str) -> None:
    overlay_name = load_profile(name).overlay
    documents = overlay(overlay_name)
    known = {tuple(sorted(pool.labels.items())): pool.taints for pool in pools(overlay_name)}
    flavors = [
        f for f in of_kind(documents, "ResourceFlavor") if f["metadata"]["name"] != "tspin-cpu"
    ]
    assert len(flavors) == len(known)
    for flavor in flavors:
        spec = flavor["spec"]
        match = [
            t for labels, t in known.items() if spec["nodeLabels"].items() <= dict(labels).items()
        ]
        taints = frozenset((t["key"], t["value"], t["effect"]) for t in spec["nodeTaints"])
        assert match == [taints], flavor["metadata"]["name"]


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_quotas_admit_each_stage(name: str) -> None:
    profile = load_profile(name)
    documents = overlay(profile.overlay)
    (group,) = named(documents, "ClusterQueue", "tspin")["spec"]["resourceGroups"]
    hard = named(documents, "ResourceQuota", "tspin")["spec"]["hard"]
    quotas = {
        f["name"]: {r["name"]: r["nominalQuota"] for r in f["resources"]} for f in group["flavors"]
    }
    assert set(quotas) == names(documents, "ResourceFlavor")
    for resource in ("cpu", "memory", "nvidia.com/gpu"):
        # A quota below what the queue admits would start half of a training, and never the rest.
        admitted = sum(in_units(quota[resource]) for quota in quotas.values())
        assert admitted <= in_units(hard[f"requests.{resource}"]), resource
    for stage in GPU_STAGES:
        wanted = getattr(profile.stages, stage)
        (flavor,) = [
            f["metadata"]["name"]
            for f in of_kind(documents, "ResourceFlavor")
            if f["spec"].get("nodeLabels", {}).items() <= wanted.node_selector.items()
            and f["spec"].get("nodeLabels")
        ]
        asked = {
            "nvidia.com/gpu": str(wanted.accelerator.count),
            "cpu": wanted.cpu.request,
            "memory": wanted.memory.request,
        }
        for resource, amount in asked.items():
            assert in_units(amount) <= in_units(quotas[flavor][resource]), (stage, resource)
            assert in_units(amount) <= in_units(hard[f"requests.{resource}"]), (stage, resource)


def test_scripts_explain_themselves_when_called_wrongly() -> None:
    script = K8S / "pools/onprem/assign.sh"
    called = subprocess.run([script, "serve", "a100", "n1"], capture_output=True, text=True)
    assert called.returncode == 2
    assert "one of generate, train, evaluate" in called.stderr


@pytest.mark.parametrize("name", GPU_PROFILES)
def test_steps_that_move_models_have_a_pool_with_disk_and_nobody_elses(name: str) -> None:
    profile = load_profile(name)
    (pool,) = pools_of(profile, "transfer")
    assert not pool.product
    assert not pool.spot  # A promotion is tried once.
    assert not any(pool in pools_of(profile, stage) for stage in (*GPU_STAGES, "light"))
    for machine in pool.machines:
        cores, memory, _ = MACHINES[machine]
        assert float(in_units(profile.stages.transfer.cpu.request)) <= cores * 0.94
        assert float(in_units(profile.stages.transfer.memory.limit)) <= memory * GIB * 0.92
