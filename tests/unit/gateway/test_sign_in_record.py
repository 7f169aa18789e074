from __future__ import annotations

from mosaic_gateway.gateway.sign_in_record import Budget


def test_budget() -> None:
    """After the burst one record is allowed each period; what is omitted is counted in the next, once."""
    now = 100.0
    budget = Budget(3, 10.0, lambda: now)
    assert [budget.take() for _ in range(5)] == [0, 0, 0, None, None]
    now = 109.0
    assert budget.take() is None
    now = 110.0
    assert [budget.take(), budget.take()] == [3, None]
    now = 1e6
    assert [budget.take() for _ in range(4)] == [1, 0, 0, None]
