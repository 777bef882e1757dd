"""Chinese text as it is compared: numbers read out, punctuation and spaces removed.

Numbers become characters by what stands around them: years, phone numbers and long codes digit by digit, amounts, dates,
fractions and percentages as values. As in the published evaluation, a minus sign is dropped with the other punctuation.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable

_DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿", "兆")
_LONGEST_VALUE = 4 * len(_GROUPS)

_NUMBER = r"\d+(?:\.\d+)?"
_CURRENCIES = "元|块|角|毛|分|欧元|美元|英镑|日元|韩元|人民币"
_COUNTED = (
    "匹张座回场尾条个首阙阵网炮顶丘棵只支袭辆挑担颗壳窠曲墙群腔砣客贯扎捆刀令打手罗坡山岭江溪钟队单双对出口头脚板跳枝件贴针线管名位身"
    "堂课本页丝毫厘钱两斤铢石钧锱忽克分寸尺丈里寻常铺程米撮勺合升斗盘碗碟叠桶笼盆盒杯斛锅簋篮罐瓶壶卮盏箩箱煲啖袋钵年月日季刻时周天秒"
    "旬纪岁世更夜春夏秋冬代伏辈丸泡粒幢堆根道面片块元次度"
)
_PUNCTUATION = string.punctuation + (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏·〈〉"
)


def spell_digits(number: str) -> str:
    """Read a number digit by digit: ``1999`` becomes 一九九九."""
    return "".join(_DIGITS[int(digit)] for digit in number if digit.isdecimal())


def spell_number(number: str) -> str:
    """Read a number as a value: ``12`` becomes 十二, ``30.5`` 三十点五."""
    whole, _, fraction = number.partition(".")
    spelled = spell_digits(whole) if len(whole) > _LONGEST_VALUE else _spell_whole(int(whole))
    return spelled + (f"点{spell_digits(fraction)}" if fraction else "")


def _spell_whole(value: int) -> str:
    if value == 0:
        return _DIGITS[0]
    spelled, gap = "", False
    for index in reversed(range(len(_GROUPS))):
        group = value // 10_000**index % 10_000
        if not group:
            gap = bool(spelled)
            continue
        if spelled and (gap or group < 1000):
            spelled += _DIGITS[0]
        spelled += _spell_group(group) + _GROUPS[index]
        gap = False
    return spelled[1:] if spelled.startswith("一十") else spelled


def _spell_group(group: int) -> str:
    spelled, gap = "", False
    for place in reversed(range(4)):
        digit = group // 10**place % 10
        if digit:
            spelled += (_DIGITS[0] if gap else "") + _DIGITS[digit] + _PLACES[place]
        gap = not digit and bool(spelled)
    return spelled


def _values(match: re.Match[str]) -> str:
    return re.sub(_NUMBER, lambda number: spell_number(number[0]), match[0])


_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"(?<!\d)\d{4}(?=年)|(?<!\d)\d{2}(?=年(?:\d{1,2}月|$))", lambda match: spell_digits(match[0])),
    (r"(?<!\d)\d{1,2}月(?:\d{1,2}[日号])?|(?<!\d)\d{1,2}[日号]", _values),
    (rf"{_NUMBER}(?=[多余几]?(?:{_CURRENCIES}))", lambda match: spell_number(match[0])),
    (r"(?<!\d)(?:(?:\+?86 ?)?1[3-9]\d{9}|(?:0\d{2,3}-?)?[1-9]\d{6,7})(?!\d)", lambda match: spell_digits(match[0])),
    (r"(\d+)/(\d+)", lambda match: f"{spell_number(match[2])}分之{spell_number(match[1])}"),
    (rf"({_NUMBER})[%％]", lambda match: f"百分之{spell_number(match[1])}"),
    (rf"{_NUMBER}(?=[多余几]?[{_COUNTED}])", lambda match: spell_number(match[0])),
    (r"\d{4,}(?!\.\d)", lambda match: spell_digits(match[0])),
    (_NUMBER, lambda match: spell_number(match[0])),
)


def normalise_chinese(text: str) -> str:
    """Write numbers out and remove punctuation and spaces, except between words of Latin letters.

    Args:
        text: As written.

    Returns:
        As compared by `character_error_rate`.
    """
    for pattern, spell in _RULES:
        text = re.sub(pattern, spell, text)
    text = text.translate(str.maketrans("", "", _PUNCTUATION))
    return re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", " ".join(text.split()))
