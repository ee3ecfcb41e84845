from textkit import longest, most_common, sentences, words


def test_words():
    assert words(" a  b c ") == 3


def test_longest_first():
    assert longest("red blue gray") == "blue"


def test_most_common():
    assert most_common("a b B c") == "b"


def test_sentences():
    assert sentences("Go. Stop! Why?") == ["Go", "Stop", "Why"]


def test_sentences_empty():
    assert sentences("") == []
