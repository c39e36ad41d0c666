"""A small client library for a web shop, whose resources are saved in order.

    import shop_sdk

    shop_sdk.connect("https://shop.example/api", token="...")
    customer = shop_sdk.Customer(name="Ada")
    customer.save().result()
    order = shop_sdk.Order(customer_id=customer.id, lines=["tea"])
    order.save()

Users of the library see `save()`, and neither requests nor this library's own plumbing. How it is tested, with responses,
is in test_shop_sdk.py:

    python -m pytest examples/shop_sdk
"""

from .client import connect, disconnect
from .resources import Customer, Order

__all__ = ["Customer", "Order", "connect", "disconnect"]
