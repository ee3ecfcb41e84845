"""Cents as text, and back."""


def format_cents(cents, mark="$"):
    """1234 becomes $12.34."""
    minus = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{minus}{mark}{whole}.{rest:02d}"


def parse_cents(text):
    """$12.34 becomes 1234."""
    clean = text.replace("$", "").replace(",", "")
    whole, _, rest = clean.partition(".")
    return int(whole) * 100 + int(rest.ljust(2, "0"))


def round_cash(cents, step=5):
    """To the nearest coin of `step` cents, half up."""
    return (cents + step // 2) // step * step


def sign(cents):
    """-1, 0 or 1."""
    if cents == 0:
        return 0
    return 1 if cents > 0 else -1
