"""Temperatures."""


def to_fahrenheit(celsius):
    """100 becomes 212."""
    return celsius * 9 / 5 + 32


def to_celsius(fahrenheit):
    """212 becomes 100."""
    return (fahrenheit - 32) * 5 / 9


def to_kelvin(celsius):
    """0 becomes 273.15; nothing is colder than 0 K."""
    return max(0, celsius + 273.15)


def feels_cold(celsius, wind=0):
    """Whether it is below 10 with the wind."""
    felt = celsius - wind / 5
    return felt < 10
