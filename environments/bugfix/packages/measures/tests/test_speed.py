from measures import duration_text, kmh, pace, travel_time


def test_kmh():
    assert kmh(100, 10) == 36


def test_kmh_no_time():
    assert kmh(100, 0) == 0


def test_pace():
    assert pace(55, 10) == "5:30"


def test_pace_small():
    assert pace(303, 60) == "5:03"


def test_travel_time():
    assert travel_time(100, 50, 1) == 3


def test_duration_text():
    assert duration_text(3700) == "1h 1m"


def test_duration_text_short():
    assert duration_text(130) == "2m"
