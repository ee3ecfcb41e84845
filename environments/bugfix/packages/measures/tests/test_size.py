from measures import area, file_size, parse_size, volume


def test_area():
    assert area(2, 3) == 6


def test_area_square():
    assert area(4) == 16


def test_volume():
    assert volume(2, 3, 4) == 24


def test_volume_flat():
    assert volume(2, 3) == 6


def test_file_size_bytes():
    assert file_size(512) == "512 B"


def test_file_size_kb():
    assert file_size(2048) == "2 KB"


def test_file_size_exact():
    assert file_size(1024) == "1 KB"


def test_parse_size():
    assert parse_size("2 KB") == 2048
