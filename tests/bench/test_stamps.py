"""What a row says of where it was measured."""

from pathlib import Path

from pchmr.bench import cpu_name


def test_a_processor_is_named_with_the_units_that_figures_depend_on(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("model name\t: A B\nflags\t\t: fpu avx2 avx_vnni\n")
    assert cpu_name(told) == "A B with AVX2, VNNI"
    told.write_text("model name\t: A B\nflags\t\t: fpu\n")
    assert cpu_name(told) == "A B"
    assert isinstance(cpu_name(tmp_path / "none"), str)
