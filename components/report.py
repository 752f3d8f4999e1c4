"""Component: the report of a run, finished or stopped."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["report"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    history: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Write the page that `tspin report` writes, and its beginning as Markdown.

    Args:
        history: As `gate` keeps it.
        page: One self-contained page.
        summary: The verdict, the facts and the first table.
    """
    from pathlib import Path

    from tspin.report.markdown import write_summary
    from tspin.report.page import write_report
    from tspin_components.artifacts import describe

    write_report(Path(history.path), Path(page.path))
    write_summary(Path(history.path), Path(summary.path))
    for output in (page, summary):
        output.metadata.update(describe(Path(output.path)))
