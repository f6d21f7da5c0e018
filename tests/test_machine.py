"""What the environment says about threads."""

import pytest

from glue_mva.machine import shorten_waits


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}], ids=str)
def test_who_says_how_threads_wait_is_heard(given):
    environment = dict(given)
    assert not shorten_waits(environment)
    assert environment == given


def test_threads_spin_for_less_by_default():
    environment = {"PATH": ""}
    assert shorten_waits(environment)
    assert environment == {"PATH": "", "GOMP_SPINCOUNT": "2000"}
    assert not shorten_waits(environment)  # so that a script which starts itself again does so once
