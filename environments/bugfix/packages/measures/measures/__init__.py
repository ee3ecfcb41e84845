"""Lengths, temperatures and speeds in other units."""

from measures.heat import feels_cold, to_celsius, to_fahrenheit, to_kelvin
from measures.length import feet_text, inches, metres, nearest_unit
from measures.size import area, file_size, parse_size, volume
from measures.speed import duration_text, kmh, pace, travel_time
