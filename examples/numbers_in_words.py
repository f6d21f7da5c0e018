"""Numbers in German and English words, by rule: what the demo of the translation learns."""

UNITS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
    "de": ["null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
           "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"],
}  # fmt: skip
TENS = {
    "en": ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
    "de": ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"],
}


def english(n: int) -> str:
    """A number from 0 to 999,999 in words."""
    if n < 20:
        return UNITS["en"][n]
    if n < 100:
        return TENS["en"][n // 10 - 2] + (f"-{english(n % 10)}" if n % 10 else "")
    if n < 1000:
        return f"{english(n // 100)} hundred" + (f" and {english(n % 100)}" if n % 100 else "")
    return f"{english(n // 1000)} thousand" + (f" {english(n % 1000)}" if n % 1000 else "")


def german(n: int, end: bool = True) -> str:
    """A number from 0 to 999,999 in words; `end`: nothing follows, so that 1 is `eins`."""
    if n < 20:
        return "eins" if n == 1 and end else UNITS["de"][n]
    if n < 100:
        return (f"{UNITS['de'][n % 10]}und" if n % 10 else "") + TENS["de"][n // 10 - 2]
    if n < 1000:
        return f"{UNITS['de'][n // 100]}hundert" + (german(n % 100, end) if n % 100 else "")
    return f"{german(n // 1000, end=False)}tausend" + (german(n % 1000, end) if n % 1000 else "")
