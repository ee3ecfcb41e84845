"""Half-open intervals (start, end) and what can be done with them."""

from spans.relate import contains, gap, is_empty, length, overlaps, touches
from spans.sets import cover, holes, merge, total
from spans.shape import clip, grow, shift, split_at
