"""The folder of a run: gone on with by the same run, refused to another, and whole whenever its process dies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import CARD, ONCE, PROVENANCE, asks

from sleeptime.core.usage import Usage
from sleeptime.evals.runs.results import Cell, Provenance, Row, Slept, Surprise
from sleeptime.evals.runs.run_folder import (
    RunFolder,
    RunFolderError,
    Settings,
    folder_name,
    open_folder,
    read_if_begun,
    read_run,
)

NO_SLEEP = Cell(arm="no_sleep", level="v0")
SLEEP = Cell(arm="sleep", level="v0", sleeping=ONCE)
MISSING = Row(cell=NO_SLEEP.id, sample_id="c0q0", error="RateLimitedError: slow down")
WRONG = Row(cell=NO_SLEEP.id, sample_id="c0q0", is_correct=False, usage=Usage(output_tokens=3), cost_usd=0.1)


def settings(*cells: Cell, names: tuple[str, ...] = ("e1",), provenance: Provenance = PROVENANCE) -> Settings:
    return Settings(
        experiments=names,
        cells=cells or (NO_SLEEP,),
        asked=tuple(asks(2)),
        price=CARD,
        sleep_price=None,
        provenance=provenance,
    )


def opened(path: Path, wanted: Settings | None = None) -> RunFolder:
    return open_folder(path, wanted or settings(), max_cost_usd=None)


def test_what_was_kept_is_read_again_as_it_was(tmp_path: Path) -> None:
    folder = opened(tmp_path / "deep" / "run")
    slept = Slept(context_id="c0", sleeping=ONCE, calls=(Usage(input_tokens=1),), rounds=1, characters=9)
    surprise = Surprise(sample_id="c0q0", log_prob=-3.5, tokens=2)
    other = replace(WRONG, draw=1, is_correct=True, text="ein Ü", answer="7")
    for row in (WRONG, other):
        folder.keep_row(row)
    folder.keep_slept(slept)
    folder.keep_surprise(surprise)
    folder.keep_not_measured("sleep/v0", "it has no dial")
    folder.worked(1.25)
    folder.close()

    run = read_run(tmp_path / "deep" / "run")

    assert run.rows == (WRONG, other)
    assert (run.slept, run.surprises, run.not_measured) == ((slept,), (surprise,), {"sleep/v0": "it has no dial"})
    assert (run.cells, run.asked, run.price, run.sleep_price) == ((NO_SLEEP,), tuple(asks(2)), CARD, None)
    assert run.provenance == replace(PROVENANCE, wall_s=2.2)
    assert (run.spent_usd, run.paid_calls) == (0.0, 0)


def test_a_row_is_on_disk_when_it_is_known(tmp_path: Path) -> None:
    opened(tmp_path).keep_row(WRONG)  # and nothing is closed

    assert read_run(tmp_path).rows == (WRONG,)


def test_a_missing_answer_gives_way_to_a_later_one_and_never_the_other_way_round(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.keep_row(MISSING)
    assert folder.missing() == {NO_SLEEP.id}

    folder.keep_row(WRONG)
    assert folder.missing() == set()
    assert read_run(tmp_path).rows == (WRONG,)

    folder.keep_row(MISSING)
    assert read_run(tmp_path).rows == (WRONG,)


def test_a_later_reason_for_a_missing_answer_is_the_one_that_is_told(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.keep_row(MISSING)
    folder.keep_row(replace(MISSING, error="UpstreamError: gone"))

    assert [row.error for row in read_run(tmp_path).rows] == ["UpstreamError: gone"]


def test_a_failed_sleep_gives_way_to_a_later_one_and_never_the_other_way_round(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    failed = Slept(context_id="c0", sleeping=ONCE, error="UpstreamError: gone")
    done = Slept(context_id="c0", sleeping=ONCE, rounds=2)
    for slept in (failed, done, failed):
        folder.keep_slept(slept)

    assert read_run(tmp_path).slept == (done,)


def test_a_query_whose_log_probability_is_missing_is_lacked(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    assert not folder.lacks_surprises()
    folder.keep_surprise(Surprise(sample_id="c0q0", log_prob=None, error="UpstreamError: gone"))
    assert folder.lacks_surprises()

    folder.keep_surprise(Surprise(sample_id="c0q0", log_prob=-1.0))

    assert not folder.lacks_surprises()


def test_the_same_run_goes_on_and_what_it_asks_for_adds_up(tmp_path: Path) -> None:
    first = opened(tmp_path, settings(replace(NO_SLEEP, queries=1)))
    first.keep_row(WRONG)
    first.worked(10.0)
    first.close()
    later = replace(PROVENANCE, wall_s=0.0, machine="another", prompt_fingerprints={"guess": "ab"})

    folder = opened(tmp_path, settings(NO_SLEEP, SLEEP, names=("e1", "e3"), provenance=later))
    folder.worked(5.0)

    run = read_run(tmp_path)
    assert run.experiments == ("e1", "e3")
    assert run.cells == (NO_SLEEP, SLEEP)
    assert run.rows == (WRONG,)
    assert run.provenance == replace(PROVENANCE, wall_s=16.0, prompt_fingerprints={"guess": "ab"})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "large"}, "another model: small, not large"),
        ({"sleep_model": "large"}, "another sleep model: small, not large"),
        ({"scoring_model": "large"}, "another scoring model: small, not large"),
        ({"dataset": "jars"}, "another dataset: boxes, not jars"),
        ({"dataset_sha256": "cd"}, "another dataset sha256: ab12, not cd"),
        ({"split": "hoist"}, "another split: sentence, not hoist"),
        ({"seeds": (1, 2)}, r"another seeds: \(1,\), not \(1, 2\)"),
        ({"limit": 5}, "another limit: None, not 5"),
        ({"model_sha256": "ef"}, "another model sha256: None, not ef"),
    ],
)
def test_another_run_is_refused_and_told_what_differs(tmp_path: Path, other: dict[str, Any], words: str) -> None:
    opened(tmp_path).close()
    before = (tmp_path / "run.json").read_bytes()

    with pytest.raises(RunFolderError, match=f"{words}.*Choose another --out"):
        opened(tmp_path, settings(provenance=replace(PROVENANCE, **other)))

    assert (tmp_path / "run.json").read_bytes() == before


def test_a_prompt_that_has_changed_is_refused_by_name_and_a_new_one_is_not(tmp_path: Path) -> None:
    def prompts(**fingerprints: str) -> Settings:
        return settings(provenance=replace(PROVENANCE, prompt_fingerprints=fingerprints))

    opened(tmp_path, prompts(guess="a", sleep="b")).close()
    opened(tmp_path, prompts(guess="a", answer="c")).close()

    with pytest.raises(RunFolderError, match="other words in the prompt sleep"):
        opened(tmp_path, prompts(guess="a", sleep="d"))
    with pytest.raises(RunFolderError, match="other words in the prompt answer"):
        opened(tmp_path, prompts(answer="d"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(RunFolderError, match=r"not a run\. Choose another --out"):
        opened(tmp_path)

    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")

    with pytest.raises(RunFolderError, match=r"run is not a folder\. Choose another --out"):
        opened(tmp_path / "run")


def test_a_run_whose_process_died_while_it_wrote_its_settings_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json.new").write_text('{"experi')

    assert read_if_begun(tmp_path) is None
    opened(tmp_path).keep_row(WRONG)

    assert read_run(tmp_path).rows == (WRONG,)


def test_half_written_settings_beside_whole_ones_are_passed_over(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "run.json.new").write_text('{"experi')

    assert read_run(tmp_path).experiments == ("e1",)
    opened(tmp_path).close()


def test_settings_that_are_damaged_are_told_so(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "run.json").write_text('{"experi')

    with pytest.raises(RunFolderError, match=r"run\.json is damaged, or of another version"):
        read_run(tmp_path)


def test_what_is_no_run_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"not the folder of a run: it has no run\.json"):
        read_run(tmp_path)


def test_the_settings_name_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    opened(tmp_path).keep_row(WRONG)

    assert all(b"secret-of-mine" not in each.read_bytes() for each in tmp_path.iterdir() if each.is_file())


def test_a_folder_is_named_after_what_is_asked() -> None:
    named = folder_name("inspect e1", "http://h:80/v1#m", "tiny", "gsm", 5, (1, 2))

    assert named == "inspect-e1-gsm-http-h-80-v1-m-sleep-tiny-limit-5-seeds-1-2"
    assert folder_name("", "tiny", "tiny", "gsm", None, ()) == "gsm-tiny"
