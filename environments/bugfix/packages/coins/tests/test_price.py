from coins import add_tax, best_price, bulk_price, discount


def test_add_tax():
    assert add_tax(1000) == 1200


def test_add_tax_half():
    assert add_tax(10, 5) == 11


def test_discount():
    assert discount(200, 25) == 150


def test_discount_over():
    assert discount(200, 150) == 0


def test_bulk_price():
    assert bulk_price(10, 7) == 50


def test_best_price():
    assert best_price({"a": 5, "b": 3}) == "b"


def test_best_price_none():
    assert best_price({}) is None
