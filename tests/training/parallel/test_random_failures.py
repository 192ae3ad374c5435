"""Law: an exception at any line of the library on one rank ends all ranks."""

import sys

import numpy as np
from case_loops import loop_over
from fake_ranks import Aborted, run_ranks
from parallel_cases import CASES

import glasscell as gc
from glasscell.training import History, RankError

LINES = 20_000  # of the library, about as many as a training of nine updates runs


class PlannedError(BaseException):
    pass


def raise_at_line(number):
    """Let this thread raise an error at the line of the library with this number, counted while it runs."""
    left = number

    def count(frame, event, _):
        nonlocal left
        left -= event == "line"
        if left == 0 and event == "line":
            sys.settrace(None)
            raise PlannedError
        return count

    package = gc.__path__[0]
    sys.settrace(lambda frame, *_: count if frame.f_code.co_filename.startswith(package) else None)


@loop_over("seed", range(12))
def test_an_exception_anywhere_ends_all(seed, tmp_path):
    draw = np.random.default_rng(seed)
    line, rank, interval = int(draw.integers(100, LINES)), int(draw.integers(2)), int(draw.choice([1, 2, 5]))
    options = {"evaluate_every": interval, "checkpoint": tmp_path, "checkpoint_every": 4, "compare_ranks_every": 2}
    if draw.integers(2):
        options["callbacks"] = [lambda state: None]
    name = str(draw.choice(["text", "ragged", "weights"]))
    trace = sys.gettrace()

    def run(comm):
        make_data, make_model, arguments = CASES[name]
        data, model = make_data(), make_model()
        if comm.Get_rank() == rank:
            raise_at_line(line)
        try:
            return gc.fit(model, data, 9, comm=comm, **(arguments | options))
        finally:
            sys.settrace(trace)

    results = run_ranks(2, run, catch=True)
    assert {type(result) for result in results} <= {PlannedError, RankError, Aborted, History}
