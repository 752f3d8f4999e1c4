import subprocess
import sys
from pathlib import Path

import pytest

from tspin.config import TripletsConfig
from tspin.errors import InputError
from tspin.records.manifest import Manifest, manifest_path, write_manifest
from tspin.records.records import (
    AnnotatedRecord,
    FurtherSample,
    Response,
    Triplet,
    read_records,
    write_records,
)
from tspin.triplets import build_triplets


def annotated_record(identity: str, response: str) -> AnnotatedRecord:
    return AnnotatedRecord.model_validate(
        {"id": identity, "prompt": f"prompt of {identity}", "response": response}
    )


def response(identity: str, text: str, finish: str = "stop") -> Response:
    return Response.model_validate(
        {
            "id": identity,
            "response": text,
            "finish_reason": finish,
            "prompt_tokens": 3,
            "response_tokens": 2,
            "seed": 1,
        }
    )


class Case:
    """Three files in a folder, and the call that joins them."""

    def __init__(self, folder: Path) -> None:
        self.annotated, self.synthetic = folder / "annotated.jsonl", folder / "synthetic.jsonl"
        self.proto, self.out = folder / "proto.jsonl", folder / "triplets.jsonl"
        self.earlier: list[Path] = []
        write_records(self.annotated, [annotated_record(i, f"y {i}") for i in "abc"])
        write_records(self.synthetic, [response(i, f"y' {i}") for i in "abc"])
        write_records(self.proto, [response(i, f"y0 {i}") for i in "abc"])

    def build(self, **options: str) -> Manifest:
        return build_triplets(
            TripletsConfig.model_validate(options),
            annotated=self.annotated,
            synthetic=self.synthetic,
            proto=self.proto,
            out=self.out,
            earlier=self.earlier,
        )

    def triplets(self) -> list[Triplet]:
        return list(read_records(self.out, Triplet))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_joins_by_id_whatever_the_order(case: Case) -> None:
    write_records(case.synthetic, [response(i, f"y' {i}") for i in "cab"])
    manifest = case.build()
    assert [(t.id, t.annotated, t.synthetic, t.proto_synthetic) for t in case.triplets()] == [
        (i, f"y {i}", f"y' {i}", f"y0 {i}") for i in "abc"
    ]
    assert manifest.counts["triplets"] == 3
    assert manifest.dropped_ids == {}


def test_thoughts_and_tools_come_along(case: Case) -> None:
    calls = [{"type": "function", "function": {"name": "w", "arguments": {}}}]
    tools = [{"type": "function", "function": {"name": "w"}}]
    thinking = annotated_record("a", "").model_copy(
        update={"tools": tools, "reasoning_content": "Look.", "tool_calls": calls}
    )
    rest = [annotated_record(identity, f"y {identity}") for identity in "bc"]
    write_records(case.annotated, [thinking, *rest])
    case.build()
    first, second, _ = case.triplets()
    assert (first.tools, first.annotated, first.annotated_tool_calls) == (tools, "", calls)
    assert first.annotated_reasoning_content == "Look."
    assert set(second.as_json()) == {
        "id",
        "prompt",
        "annotated",
        "synthetic",
        "proto_synthetic",
        "synthetic_finish_reason",
        "proto_synthetic_finish_reason",
    }


def test_doubtful_responses_are_kept_and_counted_by_default(case: Case) -> None:
    write_records(
        case.synthetic, [response("a", "y a"), response("b", ""), response("c", "y'", "length")]
    )
    manifest = case.build()
    assert manifest.counts == {
        "triplets": 3, "identical": 1, "empty": 1, "truncated": 1, "not_generated": 0,
    }  # fmt: skip
    assert case.triplets()[2].synthetic_finish_reason == "length"


@pytest.mark.parametrize(
    ("reason", "gone"), [("identical", "a"), ("empty", "b"), ("truncated", "c")]
)
def test_doubtful_responses_are_dropped_on_request(case: Case, reason: str, gone: str) -> None:
    write_records(
        case.synthetic, [response("a", "y a"), response("b", ""), response("c", "y'", "length")]
    )
    manifest = case.build(**{reason: "drop"})
    assert [t.id for t in case.triplets()] == [i for i in "abc" if i != gone]
    assert manifest.dropped_ids == {reason: [gone]}


def test_right_answers_are_not_trained_down_on_request(case: Case) -> None:
    """In whatever words; a wrong answer stays, and so does one in which no answer is found."""
    annotation = "2 + 5 = 7. The answer is 7."
    write_records(case.annotated, [annotated_record(i, annotation) for i in "abc"])
    write_records(
        case.synthetic, [response("a", "It is 7."), response("b", "It is 8."), response("c", "?")]
    )
    assert "same_answer" not in case.build().counts
    manifest = case.build(same_answer="last_number")
    assert [t.id for t in case.triplets()] == ["b", "c"]
    assert manifest.dropped_ids == {"same_answer": ["a"]}
    assert (manifest.counts["triplets"], manifest.counts["same_answer"]) == (2, 1)
    # No answer is not the same answer: nothing is found in any annotation here.
    assert case.build(same_answer="boxed").counts["triplets"] == 3


def test_special_tokens_of_a_response_are_carried_along(case: Case) -> None:
    special = response("b", "A <|tool|>").model_copy(update={"special_tokens": 1})
    write_records(case.synthetic, [response("a", "x"), special, response("c", "z")])
    case.build()
    counts = [row.synthetic_special_tokens for row in case.triplets()]
    assert counts == [0, 1, 0]
    # Where there are none, nothing is written of them.
    assert case.out.read_text().count("special_tokens") == 1


def test_a_missing_response_is_an_error_that_names_it(case: Case) -> None:
    write_records(case.proto, [response(i, "y0") for i in "ab"])
    with pytest.raises(InputError, match=r"proto.jsonl: no response for id 'c'"):
        case.build()
    assert not case.out.exists()


def test_a_prompt_that_generation_dropped_and_listed_is_dropped(case: Case) -> None:
    write_records(case.proto, [response(i, "y0") for i in "ab"])
    write_manifest(case.proto, Manifest(kind="responses", dropped_ids={"over_long": ["c"]}))
    manifest = case.build()
    assert manifest.counts["not_generated"] == 1
    assert manifest.dropped_ids == {"not_generated": ["c"]}
    assert [t.id for t in case.triplets()] == ["a", "b"]


def test_a_response_without_a_prompt_is_an_error(case: Case) -> None:
    write_records(case.synthetic, [response(i, "y'") for i in "abcd"])
    with pytest.raises(InputError, match=r"synthetic.jsonl: 1 responses belong to no record"):
        case.build()
    assert not case.out.exists()


def test_another_template_is_refused(case: Case) -> None:
    write_manifest(case.synthetic, Manifest(kind="responses", template="one"))
    write_manifest(case.proto, Manifest(kind="responses", template="two"))
    with pytest.raises(InputError, match="prompt template differ"):
        case.build()


def test_responses_to_another_annotated_set_are_refused(case: Case) -> None:
    write_manifest(case.proto, Manifest(kind="responses", inputs={"annotated": "of another"}))
    with pytest.raises(InputError, match="annotated set differ"):
        case.build()


def test_a_later_iteration_is_not_a_proto(case: Case) -> None:
    write_manifest(case.proto, Manifest(kind="responses", iteration=2))
    with pytest.raises(InputError, match="iteration 2"):
        case.build()


def test_a_file_changed_after_it_was_made_is_refused(case: Case) -> None:
    write_manifest(case.proto, Manifest(kind="responses"))
    write_records(case.proto, [response(i, "edited") for i in "abc"])
    with pytest.raises(InputError, match="changed after it was made"):
        case.build()


def test_a_current_output_is_left_alone_and_a_stale_one_made_again(case: Case) -> None:
    case.build()
    before = case.out.stat().st_mtime_ns
    case.build()
    assert case.out.stat().st_mtime_ns == before
    write_records(case.synthetic, [response(i, "other") for i in "abc"])
    case.build()
    assert {t.synthetic for t in case.triplets()} == {"other"}


def test_nothing_left_is_an_error(case: Case) -> None:
    write_records(case.synthetic, [response(i, "") for i in "abc"])
    with pytest.raises(InputError, match=r"no triplet is left.*'empty': 3"):
        case.build(empty="drop")
    assert not case.out.exists()
    assert not manifest_path(case.out).exists()


def test_memory_does_not_hold_the_texts(case: Case) -> None:
    """40 MB of responses a file are joined in less than 40 MB above what an empty join takes."""
    peaks = []
    for length in (1, 20_000):
        write_records(case.annotated, (annotated_record(str(i), "y" * length) for i in range(2000)))
        for path in (case.synthetic, case.proto):
            write_records(path, (response(str(i), "z" * length) for i in range(2000)))
        script = (
            "import sys; from pathlib import Path\n"
            "from tspin.config import TripletsConfig; from tspin.triplets import build_triplets\n"
            "a, s, p, o = map(Path, sys.argv[1:])\n"
            "build_triplets(TripletsConfig(), annotated=a, synthetic=s, proto=p, out=o)\n"
            # Not ru_maxrss: that is inherited from the process that starts this one.
            "status = Path('/proc/self/status').read_text()\n"
            "print(status.partition('VmHWM:')[2].split()[0])\n"
        )
        paths = [str(p) for p in (case.annotated, case.synthetic, case.proto, case.out)]
        done = subprocess.run(
            [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) * 1024)
    assert peaks[1] - peaks[0] < 40e6


def sample(identity: str, number: int, text: str, finish: str = "stop") -> Response:
    return response(identity, text, finish).model_copy(update={"sample": number})


def two_samples(case: Case) -> None:
    """Two y' to each of two prompts: one of `a` is its annotation, those of `b` are cut off."""
    write_records(case.annotated, [annotated_record(i, f"y {i}") for i in "ab"])
    write_records(
        case.synthetic,
        [
            sample("a", 0, "y a"),
            sample("a", 1, "y' a"),
            sample("b", 0, "b", "length"),
            sample("b", 1, "b b", "length"),
        ],
    )
    write_records(case.proto, [sample(i, k, f"y0 {i}{k}") for i in "ab" for k in range(2)])


def test_samples_of_a_prompt_are_one_triplet_with_one_y0(case: Case) -> None:
    two_samples(case)
    manifest = case.build()
    first, second = case.triplets()
    assert (first.synthetic, first.proto_synthetic) == ("y a", "y0 a0")
    assert first.further_synthetic == [FurtherSample(response="y' a")]
    assert second.further_synthetic == [FurtherSample(response="b b", finish_reason="length")]
    assert manifest.counts == {
        "triplets": 2,
        "further_synthetic": 2,
        "identical": 1,
        "empty": 0,
        "truncated": 2,
        "not_generated": 0,
    }


def test_a_doubtful_sample_is_dropped_alone_and_a_triplet_without_any(case: Case) -> None:
    two_samples(case)
    manifest = case.build(identical="drop", truncated="drop")
    (triplet,) = case.triplets()
    assert (triplet.id, triplet.synthetic, triplet.further_synthetic) == ("a", "y' a", None)
    assert (manifest.counts["triplets"], manifest.counts["truncated"]) == (1, 2)
    assert "further_synthetic" not in manifest.counts
    assert manifest.dropped_ids == {"truncated": ["b"]}


def test_at_iteration_0_every_sample_of_the_initial_policy_is_a_y1(case: Case) -> None:
    two_samples(case)
    case.synthetic = case.proto
    case.build()
    first, _ = case.triplets()
    assert (first.synthetic, first.proto_synthetic) == ("y0 a0", "y0 a0")
    assert [one.response for one in first.further_synthetic or ()] == ["y0 a1"]


def test_a_missing_sample_is_named(case: Case) -> None:
    write_records(case.synthetic, [sample("a", 0, "x"), sample("a", 2, "x")])
    with pytest.raises(InputError, match="sample 2 of the response to 'a' stands where sample 1"):
        case.build()


def between(case: Case) -> None:
    """Responses of iterations 0 to 3, of which the first is y0 and the last is y'."""
    case.earlier = [case.out.with_name(f"earlier-{number}.jsonl") for number in (1, 2)]
    for number, path in enumerate(case.earlier, start=1):
        write_records(path, [response(i, f"y{number} {i}") for i in "cab"])
    files = (case.proto, *case.earlier, case.synthetic)
    for iteration, path in enumerate(files):
        write_manifest(path, Manifest(kind="responses", iteration=iteration))


def test_responses_of_all_policies_are_joined(case: Case) -> None:
    without = case.build()
    assert "earlier_synthetic" not in case.out.read_text()
    between(case)
    manifest = case.build()
    for triplet in case.triplets():
        texts = [one.response for one in triplet.earlier_synthetic or ()]
        assert texts == [f"y1 {triplet.id}", f"y2 {triplet.id}"]
        assert (triplet.synthetic[:2], triplet.proto_synthetic[:2]) == ("y'", "y0")
    assert manifest.inputs.keys() - without.inputs.keys() == {
        "earlier_synthetic_1",
        "earlier_synthetic_2",
    }
    before = case.out.stat().st_mtime_ns
    case.build()
    assert case.out.stat().st_mtime_ns == before
    write_records(case.earlier[1], [response(i, "other") for i in "abc"])
    manifest_path(case.earlier[1]).unlink()
    case.build()
    assert [(t.earlier_synthetic or [])[1].response for t in case.triplets()] == ["other"] * 3


def test_the_first_response_of_each_earlier_policy_counts(case: Case) -> None:
    case.earlier = [case.out.with_name("earlier.jsonl")]
    rows = [response(i, "", "length") for i in "a"], [response(i, "y1") for i in "bc"]
    further = [row.model_copy(update={"sample": 1}) for row in rows[1]]
    write_records(case.earlier[0], [*rows[0], *rows[1], *further])
    assert len((case.build(), case.triplets())[1]) == 3
    manifest = case.build(truncated="drop")
    assert manifest.dropped_ids == {"truncated": ["a"]}
    assert [t.earlier_synthetic for t in case.triplets()] == [[FurtherSample(response="y1")]] * 2


def test_earlier_policies_have_an_order(case: Case) -> None:
    between(case)
    case.earlier.reverse()
    with pytest.raises(InputError, match=r"earlier-2.jsonl: responses of iteration 2, expected 1"):
        case.build()
    case.earlier = case.earlier[1:]
    with pytest.raises(InputError, match=r"synthetic.jsonl: responses of iteration 3, expected 2"):
        case.build()
    assert not case.out.exists()
    case.earlier = [case.out.with_name("absent.jsonl")]
    with pytest.raises(InputError, match=r"absent.jsonl: no such file"):
        case.build()
