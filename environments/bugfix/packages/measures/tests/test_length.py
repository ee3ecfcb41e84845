from measures import feet_text, inches, metres, nearest_unit


def test_metres():
    assert metres(3) == 3


def test_metres_km():
    assert metres(2, "km") == 2000


def test_metres_cm():
    assert metres(300, "cm") == 3


def test_inches():
    assert inches(5, 10) == 70


def test_feet_text():
    assert feet_text(70) == "5 ft 10 in"


def test_nearest_unit_km():
    assert nearest_unit(1000) == "km"


def test_nearest_unit_m():
    assert nearest_unit(1) == "m"


def test_nearest_unit_cm():
    assert nearest_unit(0.5) == "cm"
