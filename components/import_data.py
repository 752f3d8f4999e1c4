"""Component: annotated records become an artifact."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["import_data"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def import_data(settings: str, role: str, sha256: str, data: dsl.Output[dsl.Dataset]) -> None:
    """Copy records that the pod can read into the pipeline's storage, after checking each.

    Args:
        settings: The run configuration, JSON.
        role: `annotated` or `heldout`: which file of the configuration's section `data`.
        sha256: What the file must hold, hex.
        data: Folder with annotated.jsonl.
    """
    from tspin.config import RunConfig
    from tspin.runs.inputs import copy_records
    from tspin_components.artifacts import ANNOTATED, output_in

    out = output_in(data.path, ANNOTATED)
    config = RunConfig.model_validate_json(settings)
    data.metadata.update(copy_records(config.data, role, sha256, out))
