"""Orders against a shelf."""


def missing(shelf, order):
    """What an order needs and the shelf lacks."""
    out = {}
    for name, count in order.items():
        lack = count - shelf.get(name, 0)
        if lack > 0:
            out[name] = lack
    return out


def packs(count, size):
    """How many packs hold `count` pieces."""
    return -(-count // size)


def order_cost(order, prices, fee=5, free_from=100):
    """The cost of an order; large ones ship free."""
    cost = sum(prices[name] * order[name] for name in order)
    return cost if cost >= free_from else cost + fee


def ship(queue, space):
    """Orders that fit in turn, and those that wait."""
    for place, size in enumerate(queue):
        if size > space:
            return queue[:place], queue[place:]
        space -= size
    return queue, []
