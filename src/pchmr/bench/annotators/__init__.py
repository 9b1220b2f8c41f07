"""How well each way of annotating does: `pchmr bench annotators` writes `annotators.jsonl`.

Oracle observations test the solver; what pictures alone give is in the table `images`. People of
domain B do what the pose prior has never seen, and no quality predictor was fitted on them.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec

from pchmr.annotate.deposer import Annotator
from pchmr.bench.annotators.oracle import People, draw_people, observe
from pchmr.bench.annotators.scores import Run, kept, run_mode, score
from pchmr.bench.annotators.strangers import draw_strangers, dress
from pchmr.bench.annotators.tables import (
    CASES,
    CLOTHED,
    CURVE,
    DENSE,
    KEYPOINT,
    STRONG,
    About,
    Case,
    Crowd,
    coverage_rows,
    curve_cases,
    curve_rows,
    error_row,
    ratio_rows,
)
from pchmr.body import load_body
from pchmr.config import BenchConfig
from pchmr.progress import say
from pchmr.results import ResultRow

__all__ = ["FILE", "Studio", "score", "tables"]

FILE = "annotators"
NUM_PEOPLE = 512
SEED = 0
CLOTHES = 0.02


class Studio:
    """The people of a benchmark, and runs on them, each computed once."""

    def __init__(self, count: int, seed: int = SEED) -> None:
        self.count, self.seed = count, seed
        self.annotator = Annotator(load_body())
        self.people = lru_cache(maxsize=2)(self._people)

    def _people(self, crowd: Crowd, clothed: bool) -> People:
        body = self.annotator.body
        if crowd == "strangers":
            people = draw_strangers(body, self.count, seed=self.seed)
        else:
            people = draw_people(body, self.count, domain="B", seed=self.seed)
        return dress(body, people, CLOTHES) if clothed else people

    @property
    def about(self) -> About:
        """What every row says of its people."""
        words = "rendered people, oracle observations"
        return About(n=self.count, seed=self.seed, differs=words)

    def run(self, case: Case) -> Run:
        """Scores of a case, from the cache where they are."""

        def compute() -> Run:
            people = self.people(case.crowd, case.setting in CLOTHED)
            seen = observe(self.annotator.body, people, case.noise, seed=self.seed)
            return run_mode(self.annotator, people.vertices, seen, case.mode)

        name = f"{case.mode} {case.crowd} {case.setting in CLOTHED} {case.noise} {self.count}"
        return kept(f"{name} {self.seed} {self.annotator.body.sha256}", compute)


def tables(config: BenchConfig, count: int = NUM_PEOPLE) -> Iterator[ResultRow]:
    """All rows, table by table; runs that a killed benchmark finished are taken from the cache."""
    from pchmr.bench.annotators.images import image_rows
    from pchmr.bench.annotators.speed import speed_rows

    studio = Studio(count)
    if config.data is None:
        yield from _oracle_rows(studio)
        yield from speed_rows(config.repeats, About(seed=studio.seed))
    yield from image_rows(studio.annotator, config.data)


def _oracle_rows(studio: Studio) -> Iterator[ResultRow]:
    has_anny = find_spec("anny") is not None
    if not has_anny:
        say("without Anny (pip install pchmr[build]) its own people are left out")
    runs: dict[Case, Run] = {}
    for case in (*CASES, *curve_cases()):
        if case.crowd == "strangers" and not has_anny:
            continue
        runs[case] = studio.run(case)
        say(f"  {case.cell}: MPJPE {runs[case].scores['mpjpe_mm'].mean():.1f} mm")
    curve = [(case, run) for case, run in runs.items() if case.setting == CURVE]
    runs = {case: run for case, run in runs.items() if case.setting != CURVE}
    for case, run in runs.items():
        yield error_row(case, run, studio.about)
    strong = {case.setting: run for case, run in runs.items() if case.mode == STRONG}
    for case, run in runs.items():
        if case.mode != STRONG:
            yield from ratio_rows(case, run, strong[case.setting], studio.about)
    yield from curve_rows(curve, studio.about)
    yield from coverage_rows(shipped_cases(runs), studio.about)


def shipped_cases(runs: dict[Case, Run]) -> dict[str, Run]:
    """The matched runs of the modes that have a predictor, by mode."""
    wanted = {STRONG: "none", KEYPOINT: "affine 5 cm", DENSE: "metric 2 cm"}
    return {
        case.mode: run
        for case, run in runs.items()
        if case.setting == "matched" and wanted.get(case.mode) == case.depth
    }
