"""Amounts of money in whole cents: writing, sharing, prices."""

from coins.price import add_tax, best_price, bulk_price, discount
from coins.share import change, share, split_tip, weighted
from coins.write import format_cents, parse_cents, round_cash, sign
