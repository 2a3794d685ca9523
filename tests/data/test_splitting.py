import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaks import (
    carve_groups,
    carve_polypgen,
    clinicdb_sequences,
    group_pairs,
    near_duplicates,
    polyp_free,
    polypgen_groups,
)

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.splitting import (
    CARVE_SEED,
    carve_out,
    check_parts,
    read_list,
    shipped_list,
)

SIZES = {
    "kvasir-880-120": (780, 100, 120),
    "kvasir-880-120-final": (860, 20, 120),
    "kvasir-pranet": (810, 90, 100),
    "clinicdb-pranet": (495, 55, 62),
    "clinicdb-sequence": (425, 70, 117),
    "clinicdb-sequence-final": (470, 25, 117),
    "polypgen-c1-c2-c3-c5": (984, 118, 120),
}


def _parts(stem: str) -> dict[str, list[str]]:
    return {part: shipped_list(f"{stem}-{part}") for part in ("train", "val", "test")}


@pytest.mark.parametrize("stem", SIZES)
def test_shipped_list__sizes_are_as_published(stem: str) -> None:
    assert tuple(map(len, _parts(stem).values())) == SIZES[stem]


@pytest.mark.parametrize("stem", ["kvasir-880-120", "kvasir-880-120-final", "kvasir-pranet", "clinicdb-pranet"])
def test_carve_groups__makes_the_shipped_validation_lists(stem: str) -> None:
    parts = _parts(stem)
    groups = group_pairs(near_duplicates(stem.partition("-")[0]))
    made = carve_groups([*parts["train"], *parts["val"]], len(parts["val"]), CARVE_SEED, groups)
    assert made == (parts["train"], parts["val"])


@pytest.mark.parametrize(("stem", "count"), [("clinicdb-sequence", 75), ("clinicdb-sequence-final", 25)])
def test_carve_groups__makes_the_shipped_sequence_lists(stem: str, count: int) -> None:
    sequences = clinicdb_sequences()
    rest, test = carve_groups(sequences, 122, CARVE_SEED, sequences)
    train, val = carve_groups(rest, count, CARVE_SEED, sequences)
    assert {"train": train, "val": val, "test": test} == _parts(stem)


def test_carve_polypgen__makes_the_shipped_lists() -> None:
    parts = _parts("polypgen-c1-c2-c3-c5")
    names = [name for part in parts.values() for name in part]
    assert carve_polypgen(sorted(names)) == parts
    groups = polypgen_groups(names)
    sides = [{groups[name] for name in part} for part in parts.values()]
    assert len(set().union(*sides)) == sum(map(len, sides)), "no patient or run of numbers is on two sides"


def test_polyp_free__frames_are_in_every_part_and_centre_4_is_in_none() -> None:
    free, parts = polyp_free(), _parts("polypgen-c1-c2-c3-c5")
    assert [sum(name in free for name in names) for names in parts.values()] == [31, 3, 5]
    clean = shipped_list("polypgen-c4-clean")
    assert len(clean) == 32
    assert all(free[name] == "clean" for name in clean)
    assert not set(clean) & set().union(*parts.values())


@pytest.mark.parametrize(
    ("stem", "sizes"), [("clinicdb-sequence", [19, 3, 7]), ("clinicdb-sequence-final", [21, 1, 7])]
)
def test_clinicdb_sequences__none_is_on_two_sides(stem: str, sizes: list[int]) -> None:
    sequences = clinicdb_sequences()
    sides = [{sequences[name] for name in names} for names in _parts(stem).values()]
    assert [len(side) for side in sides] == sizes
    assert len(set().union(*sides)) == 29 == sum(map(len, sides))


def test_pranet_kvasir__and_880_120_hold_the_same_images() -> None:
    first, second = _parts("kvasir-880-120"), _parts("kvasir-pranet")
    assert set().union(*first.values()) == set().union(*second.values())
    assert len(set(second["test"]) - set(first["test"])) == 91  # as stated beside the lists


@pytest.mark.parametrize(
    ("stem", "leaks"),
    [
        ("kvasir-880-120", 0),
        ("kvasir-880-120-final", 0),
        ("kvasir-pranet", 0),
        ("clinicdb-sequence", 0),
        ("clinicdb-sequence-final", 0),
        ("clinicdb-pranet", 3),
        ("polypgen-c1-c2-c3-c5", 0),
    ],
)
def test_near_duplicates__across_the_test_border_as_stated(stem: str, leaks: int) -> None:
    side = {name: part for part, names in _parts(stem).items() for name in names}
    pairs = near_duplicates(stem.partition("-")[0])
    assert pairs
    across = [(a, b) for a, b in pairs if (side[a] == "test") != (side[b] == "test")]
    assert len(across) == leaks
    assert all(side[a] == side[b] for a, b in pairs if (a, b) not in across), "train and val never share a pair"


@given(st.sets(st.integers(0, 500), min_size=1), st.integers(0, 100), st.integers(0, 5), st.integers(1, 7))
def test_carve_groups__is_a_partition_by_whole_groups(numbers: set[int], count: int, seed: int, modulus: int) -> None:
    names = [f"n{number}" for number in numbers]
    groups = {name: f"g{int(name[1:]) % modulus}" for name in names}
    stay, aside = carve_groups(names, count, seed, groups)
    assert sorted([*stay, *aside]) == sorted(names)
    assert len(aside) <= count
    assert not {groups[name] for name in stay} & {groups[name] for name in aside}
    assert carve_groups(names[::-1], count, seed, groups) == (stay, aside)


def test_carve_out__takes_so_many_and_depends_on_the_seed_but_not_on_the_order() -> None:
    names = [f"n{number}" for number in range(100)]
    first, second = carve_out(names, 10, 0), carve_out(names, 10, 1)
    assert len(first[1]) == len(second[1]) == 10
    assert first[1] != second[1]
    assert first == carve_out(names[::-1], 10, 0) == carve_groups(names, 10, 0, {})


def test_read_list__skips_comments_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("# mine\n a \n\nb.jpg\r\nc d\n")
    assert read_list(tmp_path / "train.txt") == ["a", "b.jpg", "c d"]


@pytest.mark.parametrize("name", ["../a", "/a", "sub/a", "..", "sub\\a", "C:a"])
def test_read_list__refuses_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.txt").write_text(f"ok\n{name}\n")
    with pytest.raises(DataError, match=r"train\.txt holds names that are paths"):
        read_list(tmp_path / "train.txt")


def test_read_list__refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="must be UTF-8"):
        read_list(tmp_path / "train.txt")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ["a", "x", "y"]}, r"train list names images that here does not have: x, y\. Do this"),
        ({"train": ["a"], "test": ["b", "a"]}, r"test and train lists of here overlap: a"),
        ({"val": ["a", "a"]}, r"val list of here names images more than once: a"),
    ],
)
def test_check_parts__refuses(parts: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_parts(parts, ["a", "b"], "here", "Do this.")


@given(st.lists(st.text(min_size=1, max_size=12), max_size=12))
def test_read_list__any_text_is_read_or_refused_and_never_leads_out(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            names = read_list(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 (either way is right)
            return
        for name in names:
            assert name == name.strip()
            assert (Path(folder) / name).parent == Path(folder)
