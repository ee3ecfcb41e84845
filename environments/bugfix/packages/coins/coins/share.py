"""An amount among several people."""


def share(cents, people):
    """Equal parts; the first ones get the rest."""
    part, rest = divmod(cents, people)
    return [part + 1] * rest + [part] * (people - rest)


def weighted(cents, weights):
    """Parts by weight; the last one gets the rest."""
    whole = sum(weights)
    parts = [cents * weight // whole for weight in weights]
    parts[-1] += cents - sum(parts)
    return parts


def split_tip(cents, percent, people):
    """What each pays with a tip, rounded up."""
    full = cents * (100 + percent)
    return -(-full // (100 * people))


def change(cents, coins=(50, 20, 10, 5, 1)):
    """The fewest coins, largest first."""
    out = []
    for coin in coins:
        while cents >= coin:
            out.append(coin)
            cents -= coin
    return out
