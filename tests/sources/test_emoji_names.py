import pytest

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sources.emoji_names import caption, code_points, describe, group, with_article


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("1f600", "a grinning face"),
        ("1f418", "an elephant"),
        ("1f44f", "clapping hands"),
        ("1f386", "fireworks"),
        ("1f321-fe0f", "a thermometer"),
        ("1f3c3-1f3fb-200d-2640-fe0f", "a female runner with light skin tone"),
        ("1f446-1f3ff", "a hand pointing up with dark skin tone"),
        ("1f468-1f3fd-200d-1f33e", "a male farmer with medium skin tone"),
        ("1f9d1-200d-1f680", "an astronaut"),
        ("1f468-1f3fc-200d-1f9b0", "a man with red hair and medium-light skin tone"),
        ("1f468-200d-1f469-200d-1f466", "a man, a woman and a boy"),
        (
            "1f469-1f3fb-200d-1f91d-200d-1f468-1f3ff",
            "a woman, a handshake and a man with light skin tone and dark skin tone",
        ),
        ("1f43b-200d-2744-fe0f", "a white bear face"),
        ("1f3f4-200d-2620-fe0f", "a waving black flag with skull and crossbones"),
        ("1f1e6-1f1e9", "a flag with the letters A D"),
        ("1f3f4-e0067_e0062_e0073_e0063_e0074", "a flag of gbsct"),
        ("0033-fe0f-20e3", "a keycap 3"),
    ],
)
def test_captions_say_what_the_code_points_show(stem: str, words: str) -> None:
    assert caption(stem) == f"an animated emoji of {words}, on a white background"


@pytest.mark.parametrize(
    "kin",
    [
        ("1f3c3", "1f3c3-1f3fb-200d-2640-fe0f", "1f3c3-1f3ff-200d-2642-fe0f"),
        ("1f9d1-200d-1f33e", "1f468-1f3fd-200d-1f33e", "1f469-200d-1f33e"),
        ("1f467", "1f466-1f3fb"),
        ("1f478", "1f934-1f3ff"),
        ("1f44d", "1f44d-1f3fb"),
        ("1f46b", "1f46d-1f3fb", "1f469-1f3fb-200d-1f91d-200d-1f468-1f3fc"),
        ("1f491", "1f469-200d-2764-fe0f-200d-1f468"),
        ("1f385-1f3fd", "1f9d1-1f3fb-200d-1f384"),
        ("1f930", "1fac4-1f3fd"),
    ],
)
def test_tones_and_genders_are_of_one_group(kin: tuple[str, ...]) -> None:
    assert len({group(stem) for stem in kin}) == 1
    assert group("1f44e") != group("1f44d")
    assert group("1f9d1-200d-1f33e") != group("1f9d1-200d-1f373")


def test_a_code_point_newer_than_pythons_tables_still_gets_a_caption() -> None:
    assert with_article(describe([0x10FFFD])) == "a symbol 10fffd"


def test_sequences_of_nothing_but_modifiers_are_described() -> None:
    assert describe([0x1F3FB]) == "emoji modifier fitzpatrick type-1-2"
    assert describe([0xFE0F]) == "variation selector-16"


@pytest.mark.parametrize("stem", ["smile", "1f600-", "", "1F600 copy", "ffffff"])
def test_other_names_give_no_code_points(stem: str) -> None:
    assert code_points(stem) is None
    with pytest.raises(MobiusError, match="no Unicode code points"):
        caption(stem)
