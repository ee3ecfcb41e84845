"""Speeds and times."""


def kmh(metres, seconds):
    """The speed in km/h; 0 without time."""
    if seconds == 0:
        return 0
    return metres / seconds * 3.6


def pace(minutes, km):
    """Minutes a kilometre, as 5:30."""
    whole, rest = divmod(round(minutes * 60 / km), 60)
    return f"{whole}:{rest:02d}"


def travel_time(km, speed, rest=0):
    """Hours on the way, with rests."""
    return km / speed + rest


def duration_text(seconds):
    """3700 becomes 1h 1m."""
    hours = seconds // 3600
    minutes = seconds % 3600 // 60
    return f"{hours}h {minutes}m" if hours > 0 else f"{minutes}m"
