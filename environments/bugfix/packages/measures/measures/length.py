"""Lengths."""


def metres(value, unit="m"):
    """A length in metres."""
    factors = {"mm": 0.001, "cm": 0.01, "m": 1, "km": 1000}
    return value * factors[unit]


def inches(feet, extra=0):
    """Feet and inches as inches."""
    return feet * 12 + extra


def feet_text(count):
    """70 inches become 5 ft 10 in."""
    feet, rest = divmod(count, 12)
    return f"{feet} ft {rest} in"


def nearest_unit(length):
    """The unit that suits a length in metres."""
    if length >= 1000:
        return "km"
    return "m" if length >= 1 else "cm"
