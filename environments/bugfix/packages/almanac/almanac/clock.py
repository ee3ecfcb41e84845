"""Times of day, in minutes since midnight."""


def minutes_of(text):
    """07:30 becomes 450."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def clock_text(minutes):
    """450 becomes 07:30."""
    hours, rest = divmod(minutes, 60)
    return f"{hours:02d}:{rest:02d}"


def add_minutes(text, minutes):
    """A time later on, past midnight too."""
    later = (minutes_of(text) + minutes) % 1440
    return clock_text(later)


def noon_text(hour):
    """15 becomes 3 pm."""
    half = "am" if hour < 12 else "pm"
    return f"{hour % 12 or 12} {half}"
