"""Component: a model that every pod can read becomes an artifact that names it."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["import_model"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def import_model(model: str, identity: str, fetch: str, policy: dsl.Output[dsl.Model]) -> str:
    """Refer to a folder on a shared volume, or to a name on the Hub.

    A Hub model's weights are fetched into the cache here, before any task holds a GPU while it
    waits for them.

    Args:
        model: The folder or the name.
        identity: What `check_inputs` found there.
        fetch: Whose Hub models are fetched: `identity`, where the tasks that load the model have
            this task's cache; otherwise empty.
        policy: Folder with reference.json.

    Returns:
        The URI of the artifact.
    """
    from tspin.models.folder import fetch_weights
    from tspin_components.artifacts import write_reference

    fetch_weights(fetch)
    write_reference(policy.path, model, identity)
    policy.metadata.update({"model": model, "identity": identity})
    return str(policy.uri)
