"""Component: find out whether the run could promote its model, before anything is computed."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["check_registry"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_registry(
    registry: str,
    mirrors: list[str] = [],  # noqa: B006  (kfp takes no other default of a list)
    mirror_name: str = "",
) -> None:
    """Read the champions and write an empty object, with the rights of the promotion. Never cached.

    A wrong bucket, missing rights, a store without conditional writes or a history that was
    changed then fails the run in its first minute, not after its GPU hours. So does a mirror that
    is none; one that cannot be reached is named.

    Args:
        registry: Folder or URI.
        mirrors: Other registries that show the champion, too: model-registry=URL, mlflow=URL.
        mirror_name: Of the registered model there; made of the registry's URI if empty.
    """
    from tspin.mirrors.following import mirrored
    from tspin.registry import Registry

    with mirrored(registry, mirrors, mirror_name or None):
        Registry(registry).probe()
