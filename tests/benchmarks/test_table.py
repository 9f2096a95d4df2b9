"""The table that people and programs read."""

from benchmarks.conditions import Conditions
from benchmarks.figures import Figure, Sample, Verdict, at_least, below
from benchmarks.table import Measured, markdown, to_json

FIGURES = (Figure("p50", "µs", below(100)), Figure("p99", "µs", below(1000), below(200)))
MEASURED = Measured(
    "lateness",
    FIGURES,
    [
        Sample([50, 150], {"CPU, %": 60}),
        Sample([120, 160], {"CPU, %": 80}),
        Sample([60, 190], {"CPU, %": 70, "once, s": 1}),
    ],
    before=[Conditions(0.01, 0.0), Conditions(0.25, 0.1), Conditions(0.03, 0.5)],
)
MISSING = Measured("closed", (Figure("against wrk", "×", at_least(0.35)),), [], "there is no wrk: apt-get install wrk")


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_each_figure_has_a_row_with_median_and_verdict():
    _, _, p50, p99 = rows(markdown([MEASURED]))
    assert p50 == [
        "lateness", "p50", "60 µs", "50 … 120", "< 100 µs", "", "holds (held in 2 of 3 rounds)",
        "CPU, %: 70; once, s: 1",
    ]  # fmt: skip
    assert p99 == ["lateness", "p99", "160 µs", "150 … 190", "< 1,000 µs", "< 200 µs", "reaches the aim", ""]


def test_an_unmeasured_line_stays_with_its_reason_and_fails():
    text = markdown([MISSING])
    assert rows(text)[2] == ["closed", "against wrk", "", "", "≥ 0.35 ×", "", "NOT MEASURED", ""]
    assert "- closed: there is no wrk: apt-get install wrk" in text
    assert MISSING.fails


def test_an_interrupted_line_fails():
    broken = Measured("lateness", FIGURES, MEASURED.samples[:1], "nginx served 3 requests, the rows say 4")
    assert broken.fails
    assert broken.verdict(0) is Verdict.NOT_MEASURED


def test_a_line_fails_when_one_of_its_figures_is_missed():
    assert not MEASURED.fails
    assert Measured("lateness", FIGURES, [Sample([50, 1000])]).fails


def test_the_text_has_the_machines_conditions():
    text = markdown([MEASURED, MISSING])
    assert (
        "other processes took at most 25 % of the machine, and the generator's core was slow for 20 % of the time"
        in text
    )
    assert "(at most 50 %)" in text
    assert "Before a round" not in markdown([MISSING])


def test_programs_get_every_sample():
    lateness, closed = to_json([MEASURED, MISSING])
    assert [figure["values"] for figure in lateness["figures"]] == [[50, 120, 60], [150, 160, 190]]
    assert lateness["figures"][1] | {"values": 0} == {
        "what": "p99", "unit": "µs", "more_is_better": False, "must": 1000, "aim": 200, "values": 0, "median": 160,
        "verdict": "reaches the aim",
    }  # fmt: skip
    assert lateness["background"] == {"CPU, %": [60, 80, 70], "once, s": [1]}
    assert lateness["before"][1] == {"others_share": 0.25, "slow_share": 0.1}
    assert (closed["error"], closed["figures"][0]["median"]) == (MISSING.error, None)
