from spans import clip, grow, shift, split_at


def test_shift():
    assert shift((1, 4), 2) == (3, 6)


def test_grow():
    assert grow((5, 6), 2) == (3, 8)


def test_grow_one():
    assert grow((5, 6)) == (4, 7)


def test_clip():
    assert clip((1, 9), (3, 7)) == (3, 7)


def test_clip_outside():
    assert clip((1, 2), (5, 7)) == (5, 5)


def test_split_at():
    assert split_at((1, 9), 4) == [(1, 4), (4, 9)]


def test_split_at_edge():
    assert split_at((1, 9), 1) == [(1, 9)]
