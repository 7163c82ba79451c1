from benchmarks.sizing import RoundSize, WarmUp, count_fitting, minimum_seconds, size_round


def test_round_fills_its_time() -> None:
    warm_ups = [WarmUp(rate=10_000, fill_seconds=0.00001, fixed_seconds=1), WarmUp(1000, 0.00001, 1)]
    # 2 s to start and stop; each second of a round takes 1.1 s per subject, with the time to add 10,000 jobs.
    assert size_round(warm_ups, seconds=6.4) == RoundSize(jobs=20_000, seconds=2.0)


def test_slow_machine_gets_short_rounds_and_a_fast_one_is_bounded() -> None:
    assert size_round([WarmUp(300, 0, 1)], seconds=0.5) == RoundSize(jobs=300, seconds=1.0)
    assert size_round([WarmUp(100_000, 0, 1)], seconds=60) == RoundSize(jobs=120_000, seconds=4.0)


def test_jobs_have_two_significant_digits() -> None:
    assert size_round([WarmUp(1234, 0, 0)], seconds=1).jobs == 1200
    assert size_round([WarmUp(3, 0, 0)], seconds=1).jobs == 100


def test_shortest_round_takes_startup_filling_and_a_second() -> None:
    assert minimum_seconds(WarmUp(500, fill_seconds=0.001, fixed_seconds=1.5), fastest=2000) == 4.5


def test_last_subjects_are_cut_but_not_the_required_ones() -> None:
    costs = [3.0, 3.0, 2.0, 2.0]
    assert count_fitting(costs, seconds=10, required=2) == 4
    assert count_fitting(costs, seconds=9, required=2) == 3
    assert count_fitting(costs, seconds=1, required=2) == 2
