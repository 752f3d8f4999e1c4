"""Component: find out whether the run could promote its model, before anything is computed."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["check_registry"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_registry(registry: str) -> None:
    """Read the champions and write an empty object, with the rights of the promotion. Never cached.

    A wrong bucket, missing rights, a store without conditional writes or a history that was
    changed then fails the run in its first minute, not after its GPU hours.

    Args:
        registry: Folder or URI.
    """
    from tspin.registry import Registry

    Registry(registry).probe()
