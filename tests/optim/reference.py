"""The paper's equations, one coordinate at a time, in decimal numbers of 60 digits. Shares no code with the package."""

from decimal import Decimal, getcontext

getcontext().prec = 60


def trajectory(
    name, grads, lr, theta, *, beta1=0.9, beta2_min=0.5, beta2_max=0.98, eps=1e-6, weight_decay=0.0, amsgrad=False
):
    """Steps one coordinate through Algorithm 1 ("madam"), Algorithm 2 ("lamadam") or LaProp ("laprop", beta2_max).

    Args:
        grads: the gradient of each step; a float.
        lr: the learning rate of each step, or one for all.

    Returns:
        Lists over the steps: theta, beta, u, var, w, step (what the step took off theta, decay excluded).
    """
    alpha, low, high, eps, decay = map(Decimal, (beta1, beta2_min, beta2_max, eps, weight_decay))
    lrs = [Decimal(x) for x in lr] if hasattr(lr, "__len__") else [Decimal(lr)] * len(grads)
    theta = Decimal(theta)
    m = u = v = w = largest = Decimal(0)  # u, v: with a tilde in the paper
    out = {key: [] for key in ("theta", "beta", "u", "var", "w", "step")}
    for t, (g, eta) in enumerate(zip(map(Decimal, grads), lrs, strict=True), start=1):
        if name == "laprop" or t == 1:
            beta = high if high < 1 else Decimal("0.9")  # Eq. 9
        else:
            d, s = (g - u / w) ** 2, v / w - (u / w) ** 2
            if abs(s) < Decimal("1e-50") * g * g:
                s = Decimal(0)
            # Eq. 8; its limits: beta2_min where d = s = 0 (Appendix B, claim 4), no upper bound where it has no pole
            bottom = w * (d - s) + d + s
            beta = low if d == s == 0 else high if bottom <= 0 else (d + s) / bottom
            beta = min(max(beta, low), high)
        w = beta * w + 1 - beta  # Eq. 4
        u = beta * u + (1 - beta) * g  # Eq. 5
        v = beta * v + (1 - beta) * g * g  # Eq. 6
        largest = max(largest, v)
        root = ((largest if amsgrad else v) / w).sqrt() + eps
        theta *= 1 - eta * decay
        if name == "madam":
            m = alpha * m + (1 - alpha) * g
            step = eta / (1 - alpha**t) * m / root
        else:
            m = alpha * m + (1 - alpha) * g / root
            step = eta / (1 - alpha**t) * m
        theta -= step
        row = {"theta": theta, "beta": beta, "u": u / w, "var": v / w - (u / w) ** 2, "w": w, "step": step}
        for key, value in row.items():
            out[key].append(float(value))
    return out
