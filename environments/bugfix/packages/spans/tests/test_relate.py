from spans import contains, gap, is_empty, length, overlaps, touches


def test_is_empty_same():
    assert is_empty((3, 3)) is True


def test_is_empty_not():
    assert is_empty((3, 4)) is False


def test_length():
    assert length((2, 7)) == 5


def test_length_backwards():
    assert length((7, 2)) == 0


def test_contains_start():
    assert contains((1, 4), 1) is True


def test_contains_end():
    assert contains((1, 4), 4) is False


def test_overlaps_inside():
    assert overlaps((1, 9), (3, 4)) is True


def test_overlaps_meeting():
    assert overlaps((1, 3), (3, 5)) is False


def test_touches_after():
    assert touches((3, 5), (1, 3)) is True


def test_touches_not():
    assert touches((1, 2), (3, 4)) is False


def test_gap():
    assert gap((8, 9), (1, 5)) == 3


def test_gap_none():
    assert gap((1, 5), (2, 9)) == 0
