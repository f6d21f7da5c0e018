"""One fixture that runs a test on each implementation; the CUDA kernel runs in Triton's interpreter."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # read when glue_mva.optim.kernels.cuda is imported

import pytest

from glue_mva.optim import dispatch, selfcheck

IMPLEMENTATIONS = ["for-loop", "foreach", "cpu", "cuda"]


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    """Forces one implementation whatever the flags and the device say; its name."""
    monkeypatch.setattr(dispatch, "choose", lambda group, params: request.param)
    monkeypatch.setattr(selfcheck, "sound", lambda *_: True)
    return request.param
