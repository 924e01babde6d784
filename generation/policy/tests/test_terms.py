"""Which spellings of a term are found, which words are none, and how long it takes."""

import time

import pytest

from generation.policy.terms import Matcher

TERMS = (
    "blood",
    "severed head",
    "血腥",
    "кровь",
    "ass",
    "penis",
    "anus",
    "hell",
    "shit",
    "sex",
    "kill",
    "ak47",
    "rape",
    "裸体",
    "强奸",
    "自杀",
    "ポルノ",
)


@pytest.fixture(scope="module")
def matcher() -> Matcher[str]:
    return Matcher((term, term) for term in TERMS)


FOUND = [
    # letters as they are
    "blood", "BLOOD", "Blood", "bLoOd", "much blood here", "two bloods", "blood!", "(blood)", "“blood”", "blood123",
    "red-blood-cell", "画blood红", "red\u3164blood", "red\u200bblood",
    # other forms of the letters
    "ｂｌｏｏｄ", "ⓑⓛⓞⓞⓓ", "🅑🅛🅞🅞🅓", "🄱🄻🄾🄾🄳", "🅱🅻🅾🅾🅳", "🇧🇱🇴🇴🇩", "🇧 🇱 🇴 🇴 🇩", "𝐛𝐥𝐨𝐨𝐝", "𝔟𝔩𝔬𝔬𝔡", "𝕓𝕝𝕠𝕠𝕕",
    "𝖇𝖑𝖔𝖔𝖉", "ʙʟᴏᴏᴅ",
    "ᵇˡᵒᵒᵈ", "⒝⒧⒪⒪⒟", "ḃľōöð", "bløod", "b\u0301lo\u0308od", "b\u20ddlood", "bl\u20ddood",
    "b\u0336l\u0336o\u0336o\u0336d\u0336",
    # other alphabets
    "блооd", "ьlооd", "blооd", "blοοd", "βlood", "bӏood", "Ᏼlood", "ᏴᏞՕՕᎠ", "blօօd", "ꓐꓡꓳꓳꓓ", "ᑲlood",
    # invisible and blank signs
    "bl\u200bood", "bl\u200dood", "bl\u2060ood", "bl\ufeffood", "bl\u00adood", "bl\ufe0food", "bl\u115food",
    "bl\u1160ood",
    "bl\u3164ood", "bl\uffa0ood", "bl\u2800ood", "bl\u034food", "bl\U000e0020ood", "b\u202elood",
    # signs and spaces inside
    "b l o o d", "b.l-o_o d", "blo-od", "bl.ood", "bl ood", "bl/ood", "blo_od", "bl\\ood", "bl|ood", "bl*ood",
    "bl'ood",
    "blo\nod", "blo\tod", "blo \n od", "b  l  o  o  d", "(bl)(ood)", "bl(ood:1.2)", "bl、ood", "bl…ood",
    # digits and symbols for letters
    "bl00d", "b100d", "8lood", "bl0 0d", "bl 0 0d", "b1o0d", "bl○○d", "bIood", "BLO0D", "b!ood", "b|ood", "bl0-0d",
    # others
    "severed head", "severed, head", "severed\nhead", "severedhead", "sev ered he ad", "severed heads",
    "s3v3red h3ad", "血腥",
    "画面血腥", "血 腥", "血-腥", "血，腥", "血\u200b腥", "КРОВЬ на снегу", "$ex", "a$$", "$h!t", "k1ll",
    "ki11", "AK-47", "ak 47", "АК47",
    "s.e.x", "as\u00ads",
    # digits of other scripts, raised, in circles; round signs
    "bl⁰⁰d", "bl₀₀d", "bl⓪⓪d", "bl๐๐d", "bl०০d", "bl°°d", "bl🔴🔴d", "ßlood",
    # other forms of the same characters
    "裸體", "裸・体", "裸体", "強奸", "强姦", "自殺", "ぽるの", "ﾎﾟﾙﾉ",
    # what an override shows from its end
    "\u202edoolb\u202c", "bl\u202eood",
    # letter by letter beside words that are one letter
    "a b l o o d", "I b-l-o-o-d",
]  # fmt: skip

PASSED = [
    # longer words
    "bloodhound", "bloodless", "Scunthorpe", "assess", "class", "assembly", "passage", "assassin creed",
    "Sussex", "Essex",
    "hello", "shell", "skill", "Killarney", "therapist", "grape", "drapery", "peniston", "janus",
    "bass guitar", "cocktail",
    # words that only join across their borders
    "double dragon", "grab a pen is what she said", "a pen is on the table", "give an us map",
    "an us citizen", "he'll go",
    "she'll sing", "we'll see", "the boy's hit song", "it's hit or miss", "as soon as", "such as sand",
    "the red ropes",
    "go on, us too", "mass essay", "the glass essence",
    "pick ill-fitting shoes", "sev en heads",
    # letter by letter, as parts of longer words
    "B A S S drum", "m.a.s.s. transit", "H E L L O", "A S S E M B L Y",
    # numbers and units
    "at 40° degrees", "455", "8008", "a 55 mm lens", "as 5 items", "1024x1024, 8k, 50mm, f/1.8", "16:9", "4 55",
    "3 girls in 1 car", "AK 74",
    # no term in a script without spaces
    "红色圆形", "一只可爱的小猫在草地上玩球，阳光明媚", "热血青年", "献血车旁的腥味", "美しい夕焼けの海",
    "สวยงามมาก", "안녕하세요",
    # let through on purpose
    "x b l o o d", "裸1体", "luoti", "bloooood", "doolb", "bl**d", "blud", "BIOOD", "klll", "⠃⠇⠕⠕⠙",
    # parts
    "severed hand", "head, severed", "several heads", "blo", "ood",
]  # fmt: skip


@pytest.mark.parametrize("text", FOUND, ids=ascii)
def test_a_spelling_that_reads_as_a_term_is_found(matcher: Matcher[str], text: str) -> None:
    assert matcher.find(text)
    assert matcher.find(f"a picture of {text}, in the snow")


@pytest.mark.parametrize("text", PASSED, ids=ascii)
def test_what_is_no_term_passes(matcher: Matcher[str], text: str) -> None:
    assert matcher.find(text) == set()
    assert matcher.find(f"a picture of {text}, in the snow") == set()


def test_each_term_is_found_beside_the_others(matcher: Matcher[str]) -> None:
    assert matcher.find("bl00d and a severed head, 血腥, ki11") == {"blood", "severed head", "血腥", "kill"}
    assert Matcher([]).find("blood") == set()
    assert Matcher([("!!!", 1)]).find("wow!!!") == set()


def test_subjects_count_only_as_they_are_written() -> None:
    subjects = Matcher([("cat", "cat"), ("猫", "猫")], joined=False)
    assert subjects.find("two Cats, 一只猫") == {"cat", "猫"}
    assert subjects.find("c a t, c4t, ca-t, catalogue") == set()


@pytest.mark.parametrize(
    "part",
    ["a red fox, ", "b l o o ", "bl0 ", "a", "blo", "血", "severed ", "a'", "b\u0301", "ass", "1 ", "I", "$"],
    ids=ascii,
)
def test_the_time_grows_with_the_text_and_no_faster(matcher: Matcher[str], part: str) -> None:
    """Eight times the text takes at most twenty times as long; the bound leaves room for the machine's noise."""

    def seconds(size: int) -> float:
        text = (part * size)[:size]
        tries = []
        for _ in range(3):
            start = time.process_time()
            matcher.find(text)
            tries.append(time.process_time() - start)
        return min(tries)

    seconds(1_000)
    assert seconds(80_000) < 20 * seconds(10_000) + 0.05
    assert seconds(10_000) < 0.5, "the longest prompt"


def test_the_time_does_not_grow_with_the_number_of_terms() -> None:
    text = "a red circle on a white background, cartoon, bold outlines " * 100
    times = []
    for count in (10, 2_000):
        many = Matcher((f"term{number} word", number) for number in range(count))
        many.find(text)
        start = time.process_time()
        many.find(text)
        times.append(time.process_time() - start)
    assert times[1] < 5 * times[0] + 0.02
