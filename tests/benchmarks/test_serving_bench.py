from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.serving import ALONE, STAND_IN, Measured, figures, footer
from benchmarks.serving_bench.alone import Alone, Task, time_calls
from benchmarks.serving_bench.check import compare
from benchmarks.serving_bench.choose import Choice
from benchmarks.serving_bench.environments import STAMP, open_environment
from benchmarks.serving_bench.goals import EAGER, LNMT, Goal, judge
from benchmarks.serving_bench.load import Load, check_load, parse
from benchmarks.serving_bench.peers import Peer, peers
from benchmarks.serving_bench.results import Results, Spread, spread
from benchmarks.serving_bench.rounds import Run, plan
from benchmarks.serving_bench.show import table
from lnmt.errors import LnmtError
from lnmt.runtime.capabilities import capabilities

NONE = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}
OUTPUT = """Running 2s test @ http://service.test/predict
  2 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.10ms  410.00us   9.02ms   91.20%
    Req/Sec     1.90k    90.15     2.03k    70.00%
  7580 requests in 2.00s, 1.82MB read
Requests/sec:   3789.62
Transfer/sec:      0.91MB

{"requests": 7580, "seconds": 2.000210, "p50_ms": 2.030, "p90_ms": 2.400, "p99_ms": 3.900, "max_ms": 9.020, \
"failures": {"connect": 0, "read": 0, "write": 0, "status": 3, "timeout": 0}}
"""


def run(server: str, number: int, concurrency: int, rate: float, p50: float, p99: float, cpu: float = 2.0) -> Run:
    load = Load(int(rate * 10), 10.0, p50, p50 + 1, p99, p99 + 5, NONE)
    return Run(server, number, concurrency, load, cpu)


RUNS = [
    run(LNMT, 0, 1, 200, 5.0, 6.0),
    run(LNMT, 1, 1, 190, 5.4, 6.0),
    run(LNMT, 0, 64, 800, 70.0, 150.0, cpu=2.5),
    run(LNMT, 1, 64, 900, 65.0, 120.0, cpu=2.5),
    run("litserve", 0, 64, 400, 150.0, 300.0),
    run("litserve", 1, 64, 300, 190.0, 330.0),
    run(EAGER, 0, 64, 100, 640.0, 700.0),
    run(EAGER, 1, 64, 90, 640.0, 700.0),
]


def test_the_load_is_the_last_line_of_json() -> None:
    load = parse(OUTPUT)
    assert load.requests_per_s == pytest.approx(7580 / 2.00021)
    assert (load.p50_ms, load.p90_ms, load.p99_ms, load.max_ms) == (2.03, 2.4, 3.9, 9.02)
    assert load.failures["status"] == 3


def test_a_script_that_told_nothing_is_an_error() -> None:
    with pytest.raises(LnmtError, match="told nothing"):
        parse("Running 2s test\nunable to connect")


def test_one_request_without_an_answer_fails_the_run() -> None:
    with pytest.raises(LnmtError, match="status: 3"):
        check_load(parse(OUTPUT), "a server")
    nothing = Load(0, 2.0, 0.0, 0.0, 0.0, 0.0, NONE)
    with pytest.raises(LnmtError, match="no request at all"):
        check_load(nothing, "a server")
    assert check_load(nothing, "a server", least=0) is nothing
    fine = Load(5, 2.0, 1.0, 1.0, 1.0, 1.0, NONE)
    assert check_load(fine, "a server") is fine


def test_answers_are_the_same_within_the_tolerance() -> None:
    wanted = ("good", {"good": 0.505, "bad": 0.495})
    assert compare(("good", {"good": 0.515, "bad": 0.485}), wanted, 0.02) == pytest.approx(0.01)
    assert compare(("bad", {"good": 0.495, "bad": 0.505}), wanted, 0.02) == pytest.approx(0.01)  # a tie that close
    assert compare(("good", {"good": 0.7, "bad": 0.3}), wanted, 0.02) is None
    clear = ("good", {"good": 0.9, "bad": 0.1})
    assert compare(("bad", {"good": 0.9, "bad": 0.1}), clear, 0.02) is None
    assert compare(("good", {"good": 0.9}), clear, 0.02) is None


def test_each_round_has_every_server_in_an_order_of_its_own() -> None:
    names = [LNMT, "litserve", "ray", "mlserver", EAGER]
    rounds = plan(names, 4, seed=7)
    assert [sorted(one) for one in rounds] == [sorted(names)] * 4
    assert len({tuple(one) for one in rounds}) > 1
    assert plan(names, 4, seed=7) == rounds


def test_figures_are_medians_with_ranges() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert f"{Spread(2.0, 1.0, 3.25):.1f}" == "2.0 (1.0…3.2)"
    results = Results(RUNS)
    assert results.figure(LNMT, 64, "requests_per_s") == Spread(850.0, 800.0, 900.0)
    found = figures(Results(RUNS[2:]))
    assert found["litserve"]["64"]["p99_ms"] == {"median": 315.0, "low": 300.0, "high": 330.0}
    assert list(found) == [EAGER, "litserve", LNMT]


def test_ratios_are_of_one_round() -> None:
    assert Results(RUNS).ratio(LNMT, "litserve", 64, "requests_per_s") == Spread(2.5, 2.0, 3.0)


def test_goals_are_held_against_the_best_peer() -> None:
    found = {goal.what: goal for goal in judge(Results(RUNS), ["litserve", EAGER, "ray"], [4.5, 4.5], {64: [0.2, 0.5]})}
    best = found["64 at once: requests/s of the best peer, litserve"]
    assert (best.reached.median, best.met) == (2.5, True)
    assert found["64 at once: p99 of that peer"].met
    assert found["64 at once: requests/s of PyTorch eager"].reached == Spread(9.0, 8.0, 10.0)
    alone = found["one at a time: p50 of tokenise and engine alone"]
    assert alone.reached.median == pytest.approx((5.0 / 4.5 + 5.4 / 4.5) / 2)
    assert not alone.met
    assert not found["64 at once: CPU of a request beside tokeniser and engine"].met
    assert not [what for what in found if what.startswith("8 at once")]  # not measured


def test_without_peers_there_is_nothing_to_be_better_than() -> None:
    assert [goal.unit for goal in judge(Results(RUNS[:4]), [], [4.5, 4.5], {})] == ["×"]


def test_a_goal_says_on_which_side_it_is_met() -> None:
    assert Goal("a", 2.0, Spread(2.0, 1.0, 3.0), "×").met
    assert not Goal("a", 2.0, Spread(2.1, 1.0, 3.0), "×", at_most=True).met


def test_the_table_has_the_fastest_first() -> None:
    titles = {LNMT: "LNMT", "litserve": "LitServe", EAGER: "eager"}
    text = io.StringIO()
    made = table(Results([one for one in RUNS if one.concurrency == 64]), titles, dict.fromkeys(titles, "int8"), 64)
    Console(file=text, width=170).print(made)
    lines = [line for line in text.getvalue().splitlines() if "int8" in line]
    assert [line.split()[1] for line in lines] == ["LNMT", "LitServe", "eager"]
    assert "850 (800…900)" in lines[0]
    assert "2.50 (2.00…3.00) ×" in lines[1]


def test_what_is_neither_tokeniser_nor_engine_is_told_by_concurrency() -> None:
    alone = [Alone(100, 4.5, 5.0, 6.0, 4.6, 24.0, tokenise_ms=0.1) for _ in range(2)]
    stand_in = [run(STAND_IN, number, 64, 800, 70.0, 80.0, cpu=cpu) for number, cpu in enumerate((0.3, 0.5))]
    found = Measured(RUNS, stand_in, alone)
    assert found.rest_ms() == {64: [pytest.approx(0.2), pytest.approx(0.4)]}
    text = footer(found, Results(RUNS), capabilities(), 90.0)
    assert "64 at once: of 2.50 ms CPU a request 0.30 ms are neither tokeniser nor engine (12%)" in text
    assert ALONE not in {one.server for one in RUNS}


def test_the_stand_in_takes_the_time_of_a_line_through_two_points() -> None:
    one, many = (Alone(9, 0.0, 0.0, 0.0, mean_ms, tokens, 0.1) for mean_ms, tokens in ((3.0, 24.0), (43.0, 1024.0)))
    fixed_s, by_token_s = Choice("a", "b", "c", {}, one, many).cost
    assert by_token_s == pytest.approx(40e-3 / 1000)
    assert fixed_s == pytest.approx(3e-3 - 24 * 40e-6)


def test_calls_are_timed_after_a_second_of_warming_up() -> None:
    now, asked = [0.0], []

    def call(texts: object) -> None:
        asked.append(texts)
        now[0] += 0.5

    task = Task("lnmt", "", "", rows=2, start=1, seconds=1.0, threads=1)
    assert time_calls(call, ["a", "b", "c"], task, lambda: now[0]) == [0.5, 0.5]
    assert asked[:3] == [["b", "c"], ["a", "b"], ["c", "a"]]


@pytest.mark.parametrize("peer", peers().values(), ids=peers())
def test_peers_are_whole(peer: Peer, repository: Path) -> None:
    assert (repository / f"benchmarks/serving_bench/servers/{peer.module}.py").is_file()
    assert all("==" in requirement for requirement in peer.requirements)
    answer = {"label": "good", "scores": {"good": 0.9, "bad": 0.1}}
    assert "a film" in repr(peer.face.body("a film"))
    replies = {
        "bentoml": [answer],
        "mlserver": {"outputs": [{"data": ['{"label": "good", "scores": {"good": 0.9, "bad": 0.1}}']}]},
    }
    assert peer.face.read(replies.get(peer.name, answer)) == ("good", {"good": 0.9, "bad": 0.1})


def test_peers_of_one_environment_have_the_same_requirements() -> None:
    for one in peers().values():
        assert {other.requirements for other in peers().values() if other.environment == one.environment} == {
            one.requirements
        }


def test_an_environment_is_used_again_while_its_requirements_are_the_same(tmp_path: Path) -> None:
    peer = peers()["litserve"]
    python = tmp_path / "litserve/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    stamp = tmp_path / "litserve" / STAMP
    stamp.write_text("".join(f"{line}\n" for line in peer.requirements), encoding="utf-8")
    assert open_environment(peer, tmp_path) == python


def test_an_environment_that_cannot_be_made_says_what_uv_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(LnmtError, match="the environment of LitServe cannot be made") as raised:
        open_environment(peers()["litserve"], tmp_path / "environments")
    assert "litserve" in str(raised.value.value)
    assert not (tmp_path / "environments/litserve" / STAMP).exists()
