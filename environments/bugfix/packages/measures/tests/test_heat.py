from measures import feels_cold, to_celsius, to_fahrenheit, to_kelvin


def test_to_fahrenheit():
    assert to_fahrenheit(100) == 212


def test_to_celsius():
    assert to_celsius(212) == 100


def test_to_kelvin():
    assert to_kelvin(0) == 273.15


def test_to_kelvin_floor():
    assert to_kelvin(-300) == 0


def test_feels_cold_wind():
    assert feels_cold(12, 20) is True


def test_feels_cold_ten():
    assert feels_cold(10) is False
