"""How often an address may be wrong."""

import pytest

from web.throttle import MOST, Throttle


def test_a39_an_address_counts_with_its_network_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.throttle.ADDRESSES", 3)
    throttle = Throttle()
    for n in range(MOST):
        throttle.enter(f"2001:db8::{n:x}")
    with pytest.raises(Exception, match="too many"):
        throttle.enter("2001:db8::ffff")
    throttle.enter("2001:db8:0:1::1")
    for n in range(9):
        throttle.enter(f"192.0.2.{n}")
    assert len(throttle._attempts) == 3
