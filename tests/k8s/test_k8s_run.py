"""The plain Job, scheduled retraining and the training runtime: three times the same pod."""

import pytest
from rendered import OVERLAYS, containers, named, of_kind, overlay, training_templates

from tspin.config import load_config
from tspin_pipelines.profiles.profile import load_profile, profile_names

BY_OVERLAY = {load_profile(name).overlay: load_profile(name) for name in profile_names()}


@pytest.mark.parametrize("name", OVERLAYS)
def test_gpus_are_requested_as_they_are_limited(name: str) -> None:
    for where, template in training_templates(overlay(name)).items():
        for container in containers(template["spec"]):
            resources = container["resources"]
            gpus = [resources[side].get("nvidia.com/gpu") for side in ("requests", "limits")]
            assert gpus[0] == gpus[1], where
            assert (gpus[0] is None) == (name == "kind-cpu"), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_job_trains_where_the_profile_does(name: str) -> None:
    train = BY_OVERLAY[name].stages.train
    for where, template in training_templates(overlay(name)).items():
        pod = template["spec"]
        container = pod["containers"][0]
        assert pod.get("nodeSelector", {}) == train.node_selector, where
        tolerated = [t.model_dump() for t in train.tolerations]
        assert pod.get("tolerations", []) == tolerated, where
        if train.accelerator:
            shared = next(v for v in pod["volumes"] if v["name"] == "shared-memory")
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert int(limits["nvidia.com/gpu"]) == train.accelerator.count
            assert (requests["cpu"], limits["cpu"]) == (train.cpu.request, train.cpu.limit)
            assert (requests["memory"], limits["memory"]) == (
                train.memory.request,
                train.memory.limit,
            )
            assert shared["emptyDir"]["sizeLimit"] == train.shared_memory
        assert container["image"] == BY_OVERLAY[name].image(train), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_jobs_configuration_is_one_that_tspin_reads(name: str, tmp_path) -> None:
    text = named(overlay(name), "ConfigMap", "tspin-run")["data"]["run.yaml"]
    file = tmp_path / "run.yaml"
    file.write_text(text)
    job = named(overlay(name), "Job", "tspin-run")["spec"]["template"]["spec"]["containers"][0]
    override = job["args"][job["args"].index("--set") + 1]
    assert str(load_config(file, [override]).run_dir) == "/runs/$(RUN_NAME)"
    assert "RUN_NAME" in {variable["name"] for variable in job["env"]}
    assert load_config(file).system.device == ("cpu" if name == "kind-cpu" else "cuda")


@pytest.mark.parametrize("name", OVERLAYS)
def test_applying_an_overlay_starts_nothing_that_costs(name: str) -> None:
    for work in of_kind(overlay(name), "Job", "CronJob"):
        if work["metadata"]["name"] != "tspin-clean":
            assert work["spec"]["suspend"] is True, work["metadata"]["name"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_old_runs_of_the_schedule_are_cleaned_where_they_are_written(name: str) -> None:
    documents = overlay(name)
    clean = named(documents, "CronJob", "tspin-clean")["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = clean["spec"]["containers"]
    (command,) = container["args"]
    assert "--prefix tspin-retrain- " in command
    assert "DAYS" in named(documents, "ConfigMap", "tspin-retention")["data"]
    job = named(documents, "Job", "tspin-run")["spec"]["template"]["spec"]
    assert "run_dir=/runs/$(RUN_NAME)" in job["containers"][0]["args"]
    claims = [
        {
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in pod["volumes"]
            if "persistentVolumeClaim" in v
        }
        for pod in (job, clean["spec"])
    ]
    assert claims[0] == claims[1]
    assert container["image"] == BY_OVERLAY[name].image(BY_OVERLAY[name].stages.light)


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_preempted_run_goes_on_and_a_wrong_one_stops(name: str) -> None:
    documents = overlay(name)
    job = named(documents, "Job", "tspin-run")["spec"]
    cron = named(documents, "CronJob", "tspin-retrain")["spec"]["jobTemplate"]["spec"]
    for spec in (job, cron):
        stop, go_on = spec["podFailurePolicy"]["rules"]
        assert (stop["action"], stop["onExitCodes"]["values"]) == ("FailJob", [2, 3])
        assert go_on["action"] == "Ignore"
        assert go_on["onPodConditions"][0]["type"] == "DisruptionTarget"
        pod = spec["template"]["spec"]
        assert stop["onExitCodes"]["containerName"] in {c["name"] for c in pod["containers"]}
        assert pod["restartPolicy"] == "Never"  # a pod failure policy needs it
        assert pod["terminationGracePeriodSeconds"] >= 120
