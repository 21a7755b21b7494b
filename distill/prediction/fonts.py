"""Which font has the letters of a text: Pillow's own has Latin ones, others come from the system."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

# Found by name in the folders of fonts of Linux, macOS and Windows; those of most letters come first.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    *("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansThai-Regular.ttf"),
    *("wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf", "unifont.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc"),
    *("arial.ttf", "msyh.ttc", "meiryo.ttc", "malgun.ttf", "Nirmala.ttf", "leelawui.ttf"),
)
_IN_MATPLOTLIB = "mpl-data/fonts/ttf/DejaVuSans.ttf"
_NO_LETTER = "\U0010ffff"  # which fonts draw as the box that stands for a letter they lack
_NONE = ""  # no font has all letters
_SIZE = 16


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # as Pillow was built


def can_be_written(text: str) -> bool:
    """Whether a font here has every letter of `text`."""
    return _font_of(text) != _NONE


def font_for(text: str, size: float) -> Font:
    """Return a font that has every letter of `text`; Pillow's own where there is none."""
    name = _font_of(text)
    return _opened(name or None, size)


def _font_of(text: str) -> str | None:
    letters = "".join(sorted({each for each in text if not each.isspace()}))
    return next((name for name in _fonts() if _has_all(name, letters)), _NONE)


@lru_cache
def _fonts() -> tuple[str | None, ...]:
    """Names or paths of the fonts that are there; None is Pillow's own."""
    matplotlib = find_spec("matplotlib")  # brings one, where it is installed
    more = [str(Path(matplotlib.origin).parent / _IN_MATPLOTLIB)] if matplotlib and matplotlib.origin else []
    return (None, *(name for name in (*_SYSTEM_FONTS, *more) if _is_there(name)))


def _is_there(name: str) -> bool:
    try:
        ImageFont.truetype(name, _SIZE)
    except OSError:
        return False
    return True


def _opened(name: str | None, size: float) -> Font:
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


@lru_cache(maxsize=1024)
def _has_all(name: str | None, letters: str) -> bool:
    font = _opened(name, _SIZE)
    lacking = _drawn(font, _NO_LETTER)
    return all(_drawn(font, letter) != lacking for letter in letters)


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
