"""Component: the report of a run, finished or stopped."""

from typing import Optional

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["report"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    history: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    begun: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045  (kfp reads no other form)
) -> None:
    """Write the page that `tspin report` writes, and its beginning as Markdown.

    Args:
        history: As `gate` keeps it.
        page: One self-contained page.
        summary: The verdict, the facts and the first table.
        begun: Responses of an iteration that had begun when the gate stopped the run.
    """
    from pathlib import Path

    from tspin.report.markdown import write_summary
    from tspin.report.page import write_report
    from tspin.tracking.tracked import Step, tracked_step
    from tspin_components.artifacts import describe, records_in

    responses = None if begun is None else records_in(begun.path)
    with tracked_step(Step("report", Path(page.path), artifact=Path(page.path))):
        write_report(Path(history.path), Path(page.path), begun=responses)
        write_summary(Path(history.path), Path(summary.path), begun=responses)
    for output in (page, summary):
        output.metadata.update(describe(Path(output.path)))
