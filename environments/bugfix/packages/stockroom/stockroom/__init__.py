"""What lies on the shelves, what is ordered, what is low."""

from stockroom.orders import missing, order_cost, packs, ship
from stockroom.report import low_items, shelf_value, summary, turnover
from stockroom.shelf import count_items, move, put, take
