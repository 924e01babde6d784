"""What a sign stands for when a text is read as a person would read it: the letter that it is, or looks like.

    sign                                                           read as               by
    with accents, strokes, hooks; small capitals; squared,         the letter            its name in Unicode
      circled; regional indicators
    of another script, and like a Latin letter                     the Latin letter      Unicode's confusables
    combining and enclosing marks, variation selectors,            nothing               its category
      joiners, soft hyphens, tags
    traditional and Japanese forms of Chinese characters           the simplified one    OpenCC
    katakana                                                       hiragana              their places in Unicode
    digits of other scripts, raised, in circles                    the digit             its value in Unicode
    blank fillers (Hangul, Braille), zero-width space              a separator           _BLANKS
    digits and symbols in place of letters: 0 @ $ !                themselves, and in    _BY_LETTER
                                                                   a second reading
                                                                   the letter

Both sides of a comparison are read so, so a term in Cyrillic still finds itself.
"""

import functools
import re
import unicodedata
from typing import Final

from confusable_homoglyphs import confusables
from opencc import OpenCC

SPACE: Final = " "
TIGHT: Final = "-"  # any separator that is no space: what it parts may still be one word
APOSTROPHE: Final = "'"

_NAMED: Final = re.compile(
    r"(?:LATIN (?:SMALL|CAPITAL) LETTER|LATIN LETTER SMALL CAPITAL|MODIFIER LETTER (?:SMALL|CAPITAL)|"
    r"(?:NEGATIVE )?(?:SQUARED|CIRCLED) LATIN CAPITAL LETTER|REGIONAL INDICATOR SYMBOL LETTER)"
    r"(?: (?:TURNED|REVERSED|OPEN|DOTLESS|SCRIPT|BARRED|INSULAR|LONG))? ([A-Z])(?: WITH .*)?"
)
_DIGIT: Final = re.compile(r"(?![0-9])\d")
_BLANKS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u200b\u180e")
_APOSTROPHES: Final = frozenset("'’ʼ＇‘`´")
# What the confusables lack, or see otherwise than readers do.
_OWN: Final = str.maketrans("абвдеклмнорстухіјѕьԁɡαβεηικνορτυχпиⲃð", "abbdeklmhopctyxijsbdgabeniknoptuxnnbd")
# i, l and what stands for either are one letter in the second reading.
_BY_LETTER: Final = {
    "a": "4@",
    "b": "68ß♭",
    "c": "¢",
    "e": "3€",
    "g": "9",
    "l": "1!|£ӏӀ",
    "o": "0°○◯●◎⭕⚪⚫⊙〇🔴🟠🟡🟢🔵🟣🟤",
    "s": "5$",
    "t": "7+",
    "z": "2",
}
_SUBSTITUTES: Final = {sign: letter for letter, signs in _BY_LETTER.items() for sign in signs}
SUBSTITUTE: Final = re.compile("[" + re.escape("".join(_SUBSTITUTES)) + "]|(?<=[^\\W\\dA-Z_])I|I(?=[^\\W\\dA-Z_])")
_LOOSE_SYMBOL: Final = re.compile(r"[!|+](?![\w@$!|+○◯●◎⭕⚪⚫⊙])|[!|+]+(?=\s|$)")
_REVERSED: Final = re.compile("\u202e([^\u202c\u2069\n]*)")  # what a right-to-left override shows from its end
# Marks on one letter: Unicode sorts them, which takes the square of their number. No script has more than a few.
# Those of Unicode all lie here.
_MARKS: Final = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code)))
_MANY_MARKS: Final = re.compile(f"([{_MARKS}]{{20}})[{_MARKS}]+")
_CAPITAL_I: Final = re.compile("(?<=[^\\W\\dA-Z_])I|I(?=[^\\W\\dA-Z_])")  # within or before small letters
SOLID: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)  # scripts without spaces between words


class _Table(dict[int, str]):
    """A table of `str.translate` that is filled as signs are met."""

    def __init__(self, read: "functools._lru_cache_wrapper[str]") -> None:
        super().__init__()
        self._read_sign = read

    def __missing__(self, code: int) -> str:
        self[code] = found = self._read_sign(chr(code))
        return found


def shown(text: str) -> list[str]:
    """What both readings begin with: a text in its compatible forms and with plain digits, as it is written and, where
    an override turns a part of it round, as it is seen.
    """
    orders = [text, _REVERSED.sub(lambda found: found[1][::-1], text)] if "\u202e" in text else [text]
    few = [_MANY_MARKS.sub(r"\1", order) for order in orders]
    return [_DIGIT.sub(_plain_digit, unicodedata.normalize("NFKC", order)) for order in few]


def plain(text: str) -> str:
    """The first reading of a `shown` text: letters and digits as they are, SPACE, TIGHT or APOSTROPHE between them."""
    return text.translate(_plain_table)


def substituted(text: str) -> tuple[str, str]:
    """The second reading, for `shown` texts in which SUBSTITUTE is found: every digit and symbol as the letter that it
    may stand for, and beside it a text of the same length with `1` where that was done.
    """
    folded = _LOOSE_SYMBOL.sub(lambda found: SPACE * len(found[0]), text)
    signs = _CAPITAL_I.sub("|", folded)
    return signs.translate(_letter_table), signs.translate(_flag_table)


def one_of_i_and_l(plain_text: str) -> str:
    """A term as the second reading has it."""
    return plain_text.translate(_I_IS_L)


_I_IS_L: Final = str.maketrans("i", "l")


@functools.cache
def _plain_sign(sign: str) -> str:
    if sign in _BLANKS:
        return TIGHT
    if sign.isspace():
        return SPACE
    if sign in _APOSTROPHES:
        return APOSTROPHE
    if unicodedata.category(sign) in ("Mn", "Me", "Cf", "Cc"):
        return ""
    found = _letter_of(sign)
    return found if found else TIGHT


@functools.cache
def _substituted_sign(sign: str) -> str:
    return _SUBSTITUTES[sign] if sign in _SUBSTITUTES else one_of_i_and_l(_plain_sign(sign))


@functools.cache
def _flag_of(sign: str) -> str:
    return "1" if sign in _SUBSTITUTES else "".join("0" for _ in _plain_sign(sign))


_plain_table: Final = _Table(_plain_sign)
_letter_table: Final = _Table(_substituted_sign)
_flag_table: Final = _Table(_flag_of)


def _letter_of(sign: str) -> str:
    """The letters and digits of a sign, small, without accents; empty for what is none."""
    if sign.isascii():
        return sign.lower() if sign.isalnum() else ""
    if SOLID.match(sign):
        return "".join(
            _solid(part) for part in unicodedata.normalize("NFD", sign) if unicodedata.category(part) != "Mn"
        )
    bare = unicodedata.normalize("NFD", sign.casefold())
    letters = "".join(_latin(part) for part in bare if unicodedata.category(part) not in ("Mn", "Me", "Cf"))
    if letters == sign and not sign.isalnum():
        return ""
    return letters


def _plain_digit(found: re.Match[str]) -> str:
    return str(unicodedata.digit(found[0]))


def _solid(sign: str) -> str:
    """One form of each character that has several."""
    if "\u30a1" <= sign <= "\u30f6":
        return chr(ord(sign) - 0x60)
    return str(_simplified().convert(sign))


@functools.cache
def _simplified() -> OpenCC:
    return OpenCC("t2s")


def _latin(sign: str, depth: int = 3) -> str:
    """The small Latin letter that a sign is or looks like; else itself."""
    own = sign.translate(_OWN)
    if own.isascii():
        return own.lower()
    named = _NAMED.fullmatch(unicodedata.name(sign, ""))
    if named:
        return named[1].lower()
    for shape in _shapes(sign):
        bare = "".join(part for part in unicodedata.normalize("NFD", shape) if unicodedata.category(part) != "Mn")
        if len(bare) != 1:
            continue
        if bare.isascii() and bare.isalnum():
            return bare.lower()
        if depth and bare != sign and not bare.isascii() and (found := _latin(bare, depth - 1)).isascii():
            return found
    return sign


def _shapes(sign: str) -> list[str]:
    """What Unicode says that the sign may be taken for."""
    if not sign.isalnum() and unicodedata.category(sign) not in ("So", "Sm"):
        return []
    return [entry["c"] for entry in confusables.confusables_data.get(sign, ())]
