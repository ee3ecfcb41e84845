"""Prices of goods."""


def add_tax(cents, rate=20):
    """The price with tax, half a cent up."""
    return (cents * (100 + rate) + 50) // 100


def discount(cents, percent):
    """The price after a discount, never below 0."""
    cut = cents * percent // 100
    return max(0, cents - cut)


def bulk_price(cents, count, every=3):
    """Each third piece is free."""
    free = count // every
    return cents * (count - free)


def best_price(prices):
    """The shop that sells cheapest, or None."""
    if not prices:
        return None
    return min(prices, key=prices.get)
