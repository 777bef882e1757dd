"""Money and measures as they are read: `$1.5M` is one point five million dollars, `1 km/h` one kilometer per hour.

The rules leave the figures to those that come after; the word for a unit follows its number.
"""

import re
from collections.abc import Callable

from emova_sdk.substitutions import any_of, rule

AMOUNT = r"\d+(?:\.\d+)?"
SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mio": "million", "b": "billion", "bn": "billion", "t": "trillion",
    "tn": "trillion",
}  # fmt: skip

# Sign or code: the coin and its hundredth part, where that is counted.
_COINS: dict[str, tuple[str, str]] = {
    "$": ("dollar", "cent"), "US$": ("u s dollar", "cent"), "C$": ("canadian dollar", "cent"),
    "CA$": ("canadian dollar", "cent"),
    "A$": ("australian dollar", "cent"), "AU$": ("australian dollar", "cent"), "NZ$": ("new zealand dollar", "cent"),
    "HK$": ("hong kong dollar", "cent"), "S$": ("singapore dollar", "cent"), "R$": ("real", "centavo"),
    "\N{EURO SIGN}": ("euro", "cent"), "\N{POUND SIGN}": ("pound", "penny"), "\N{YEN SIGN}": ("yen", ""),
    "\N{INDIAN RUPEE SIGN}": ("rupee", "paisa"), "\N{WON SIGN}": ("won", ""), "\N{RUBLE SIGN}": ("ruble", "kopeck"),
    "\N{TURKISH LIRA SIGN}": ("lira", ""), "\N{BITCOIN SIGN}": ("bitcoin", ""), "\N{NEW SHEQEL SIGN}": ("shekel", ""),
    "\N{THAI CURRENCY SYMBOL BAHT}": ("baht", ""), "\N{DONG SIGN}": ("dong", ""), "\N{HRYVNIA SIGN}": ("hryvnia", ""),
    "\N{NAIRA SIGN}": ("naira", ""), "\N{PESO SIGN}": ("peso", "centavo"),
    "\N{CENT SIGN}": ("cent", ""),
    "USD": ("u s dollar", "cent"), "CAD": ("canadian dollar", "cent"), "AUD": ("australian dollar", "cent"),
    "NZD": ("new zealand dollar", "cent"), "SGD": ("singapore dollar", "cent"), "HKD": ("hong kong dollar", "cent"),
    "EUR": ("euro", "cent"), "GBP": ("pound", "penny"), "JPY": ("yen", ""), "CNY": ("yuan", ""), "RMB": ("yuan", ""),
    "INR": ("rupee", "paisa"), "Rs": ("rupee", "paisa"), "KRW": ("won", ""), "RUB": ("ruble", "kopeck"),
    "CHF": ("swiss franc", ""),
    "SEK": ("swedish krona", ""), "NOK": ("norwegian krone", ""), "DKK": ("danish krone", ""), "PLN": ("zloty", ""),
    "CZK": ("koruna", ""), "BRL": ("real", "centavo"), "MXN": ("mexican peso", "centavo"), "ZAR": ("rand", "cent"),
    "BTC": ("bitcoin", ""),
}  # fmt: skip
SIGNS = "".join(sign for sign in _COINS if len(sign) == 1)
"""The signs of currencies of one character."""
_SIGN = any_of(sign for sign in _COINS if not sign.isalpha())
_COIN = rf"(?:{_SIGN}|(?<![A-Za-z])(?:{any_of(code for code in _COINS if code.isalpha())})(?![A-Za-z])\.?)"
_SCALE = rf"(?:\s?(thousand|million|billion|trillion|{any_of((*SCALES, *map(str.upper, SCALES)))})(?![A-Za-z\d]))?"

_PLURALS = {
    "foot": "feet", "inch": "inches", "penny": "pence", "lux": "lux", "yen": "yen", "yuan": "yuan", "won": "won",
    "baht": "baht",
    "dong": "dong", "rand": "rand", "naira": "naira", "paisa": "paise", "krona": "kronor", "krone": "kroner", "real": "reais",
    "horsepower": "horsepower", "celsius": "celsius",
}  # fmt: skip


def _plural(name: str) -> str:
    """Of `mile per hour` and `degree celsius` the first word counts, of `square foot` the last."""
    if " per " in name or name.startswith("degree "):
        first, _, rest = name.partition(" ")
        return f"{_plural(first)} {rest}"
    head, _, last = name.rpartition(" ")
    return f"{head} {last if last.endswith('hertz') else _PLURALS.get(last, f'{last}s')}".strip()


def _counted(amount: str, name: str) -> str:
    return f" {amount} {name if amount == '1' else _plural(name)} "


def _price(coin: str, amount: str, scale: str | None) -> str:
    name, part = _COINS[coin.rstrip(".")]
    if scale:
        return f" {amount} {SCALES.get(scale.lower(), scale)} {_plural(name)} "
    whole, _, decimals = amount.partition(".")
    if not part or len(decimals) > 2:
        return _counted(amount, name)
    cents = int(decimals.ljust(2, "0")) if decimals else 0
    told = _counted(str(int(whole)), name) if int(whole) or not cents else ""
    return f"{told} {_counted(str(cents), part)}" if cents else told


def _one_sign(match: re.Match[str]) -> str:
    """`$10-20 million` is ten to twenty million dollars; where there are cents each price is read by itself."""
    coin, low, scale, high = match.groups()
    return f"{coin}{low}{scale or ''} to {coin}{high}" if scale or "." in low else f"{low} to {coin}{high}"


MONEY = (
    rule(rf"({_SIGN})\s?(\d+),(\d\d)(?!\d|,\d)", r"\1\2.\3", exact=True),
    rule(rf"({_SIGN})\s?\.(?=\d)", r"\g<1>0.", exact=True),
    rule(rf"(?<=\d)-(?={AMOUNT}\s?{_COIN})", " to ", exact=True),
    rule(rf"(?<![\d.])(\d+),(\d\d)(?=\s?{_COIN})", r"\1.\2", exact=True),
    rule(rf"({_SIGN})\s?({AMOUNT})([kKMB]|[mbt]n)?\s?-\s?(?:\1\s?)?({AMOUNT})(?![\d-])", _one_sign, exact=True),
    rule(rf"(?<![\w.])-\s?(?={_SIGN})", " minus ", exact=True),
    rule(rf"({_SIGN})-(?=\d)", r" minus \1", exact=True),
    rule(rf"({_COIN})\s?({AMOUNT}){_SCALE}", lambda match: _price(match[1], match[2], match[3]), exact=True),
    rule(rf"(?<![\d.])({AMOUNT}){_SCALE}\s?({_COIN})", lambda match: _price(match[3], match[1], match[2]), exact=True),
)

_NAMES = """
    nm: nanometer; \N{GREEK SMALL LETTER MU}m: micrometer; mm: millimeter; cm: centimeter; dm: decimeter; m: meter;
    km: kilometer; in: inch;
    ft: foot; yd: yard; mi: mile; nmi: nautical mile; sq in: square inch; sq ft: square foot; sqft: square foot;
    sq m: square meter; sqm: square meter; sq km: square kilometer; sq mi: square mile; ha: hectare; l: liter; L: liter;
    ml: milliliter; mL: milliliter; cl: centiliter; dl: deciliter; gal: gallon; fl oz: fluid ounce; tsp: teaspoon;
    tbsp: tablespoon; cc: cubic centimeter; \N{GREEK SMALL LETTER MU}g: microgram; mg: milligram; g: gram; kg: kilogram;
    t: ton; lb: pound;
    lbs: pound; oz: ounce; ns: nanosecond; \N{GREEK SMALL LETTER MU}s: microsecond; ms: millisecond; s: second; sec: second;
    secs: second;
    min: minute; mins: minute; h: hour; hr: hour; hrs: hour; wk: week; wks: week; mo: month; yr: year; yrs: year;
    kmh: kilometer per hour; kph: kilometer per hour; mph: mile per hour; mpg: mile per gallon; kn: knot;
    \N{DEGREE SIGN}C: degree celsius; \N{DEGREE SIGN}F: degree fahrenheit; \N{DEGREE SIGN}: degree; K: kelvin; J: joule;
    kJ: kilojoule; MJ: megajoule; cal: calorie; kcal: kilocalorie; Wh: watt hour; kWh: kilowatt hour; MWh: megawatt hour;
    GWh: gigawatt hour; mW: milliwatt; W: watt; kW: kilowatt; MW: megawatt; GW: gigawatt; hp: horsepower; mV: millivolt;
    V: volt; kV: kilovolt; mA: milliamp; mAh: milliamp hour; Ah: amp hour; ohm: ohm; kohm: kiloohm; Hz: hertz;
    kHz: kilohertz; MHz: megahertz; GHz: gigahertz; THz: terahertz; kB: kilobyte; KB: kilobyte; MB: megabyte; GB: gigabyte;
    TB: terabyte; PB: petabyte; KiB: kibibyte; MiB: mebibyte; GiB: gibibyte; kb: kilobit; Mb: megabit; Gb: gigabit;
    bps: bit per second; kbps: kilobit per second; Mbps: megabit per second; Gbps: gigabit per second; fps: frame per second;
    rpm: revolution per minute; bpm: beat per minute; dpi: dot per inch; ppi: pixel per inch; px: pixel; MP: megapixel;
    Pa: pascal; hPa: hectopascal; kPa: kilopascal; MPa: megapascal; mbar: millibar; bar: bar; psi: pound per square inch;
    lm: lumen; lx: lux; dB: decibel; mol: mole; N: newton; ppm: part per million; pcs: piece
"""
_UNITS: dict[str, str] = {
    symbol: name for symbol, _, name in (row.strip().partition(": ") for row in " ".join(_NAMES.split()).split(";"))
}
_UNITS_IN_ANY_CASE = {symbol.casefold(): name for symbol, name in reversed(_UNITS.items()) if len(symbol) > 1}
_POWERS = {"2": "square", "3": "cubic"}
# `in` is a unit before a full stop or a word of size only; `1 in 5` is not.
_INCH = r"in(?=\.\s|\.?$|\s(?:wide|long|tall|high|deep|thick)\b)"
_SYMBOL = rf"(?:{_INCH}|{any_of(symbol for symbol in _UNITS if symbol not in ('in', 'K'))}|(?<=\s)K)"
_QUANTITY = rf"(?:\d+\s+)?\d+/\d+|{AMOUNT}"
_EACH = "second|minute|hour|day|night|week|month|year|person|user|head|item|page|mile|gallon|liter|unit|seat|share|piece"


def _unit(symbol: str) -> str:
    return _UNITS.get(symbol) or _UNITS_IN_ANY_CASE[symbol.casefold()]


def _measured(symbol: str, power: str | None) -> str:
    return f"{_POWERS[power]} {_unit(symbol)}" if power else _unit(symbol)


def _measure(match: re.Match[str]) -> str:
    amount, joint, symbol, power, under, under_power = match.groups()
    name = _measured(symbol, power)
    if under:
        squared = f"{_unit(under)} squared" if under_power and _unit(under) == "second" else _measured(under, under_power)
        name = f"{name} per {squared}"
    single = joint == "-" or amount == "1" or re.fullmatch(r"\d+/\d+", amount)
    return f"{amount} {name if single else _plural(name)} "


def _rule_of_units(*, exact: bool) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str]]:
    """In their own case units of one letter count too: `5 m` is a length, `5M` is not."""
    symbol = _SYMBOL if exact else any_of(symbol for symbol in _UNITS if len(symbol) > 1 and symbol != "in")
    power = r"(?:\^?([23]))?"
    pattern = (
        rf"(?<![A-Za-z\d.])({_QUANTITY})(\s?|-)({symbol}){power}(?:\s?/\s?({symbol}){power})?(?:\.(?=\s+[a-z]))?(?![A-Za-z\d'])"
    )
    return re.compile(pattern, 0 if exact else re.IGNORECASE), _measure


MEASURES = (
    rule(r"(?<=\d)(\s?h\s?\d{1,2}\s?)m\b(?=\s*\d|\s*[.,;]|\s*$)", r"\1min", exact=True),
    rule(r"(?<=\d)\s?m(?=\s?\d{1,2}\s?s\b)", "min", exact=True),
    rule(r"(?<=\d)'\s?(\d{1,2})\s?(?:\"|'')", lambda match: f" feet {_counted(match[1], 'inch')}"),
    rule(r"(?<=\d)\"(?=\s(?:screen|monitor|display|tv|pipe|wheels?|wide|long|tall|thick|x|by)\b)", " inches"),
    rule(r"\N{DEGREE SIGN}\s+(?=[CF]\b)", "\N{DEGREE SIGN}", exact=True),
    _rule_of_units(exact=True),
    _rule_of_units(exact=False),
    rule(rf"\s?/\s?(?=(?:{_EACH})\b)(?<!or/)", " per "),
)
